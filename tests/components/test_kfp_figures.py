"""Figures of classes as KFP's page draws them (2.17, MetricsVisualizations.tsx)."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from kfp.dsl import ClassificationMetrics

from components.kfp_figures import log_classes
from nascore.evaluation.class_metrics import class_figures


def test_rows_are_true_classes_and_the_curve_ends_in_its_corners(tmp_path: Path) -> None:
    """The page names the first index "True label" and the second "Predicted label"."""
    labels = np.array([0] * 10 + [1] * 5)
    predicted = np.array([0] * 7 + [1] * 3 + [1] * 5)
    logits = np.eye(2)[predicted] * 3 + np.linspace(0, 0.1, 30).reshape(15, 2)
    figures = asdict(class_figures(logits, labels, ("cat", "dog")))
    (tmp_path / "model.json").write_text(json.dumps({"figures": figures}))
    logged = ClassificationMetrics()
    log_classes(logged, tmp_path)
    matrix = logged.metadata["confusionMatrix"]
    assert [one["displayName"] for one in matrix["annotationSpecs"]] == ["cat", "dog"]
    assert matrix["rows"] == [{"row": [7, 3]}, {"row": [0, 5]}]
    curve = logged.metadata["confidenceMetrics"]
    assert set(curve[0]) == {"confidenceThreshold", "falsePositiveRate", "recall"}
    corners = [(point["falsePositiveRate"], point["recall"]) for point in (curve[0], curve[-1])]
    assert corners == [(0.0, 0.0), (1.0, 1.0)]
    assert all(isinstance(value, float) for point in curve for value in point.values())
