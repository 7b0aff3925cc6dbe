"""Figures of classes in the forms of Kubeflow and MLflow."""

import json
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from kfp.dsl import ClassificationMetrics
from mlflow.utils.validation import _validate_metric_name

from components.kfp_figures import MAX_CLASSES, log_classes
from components.steps.class_figures import MAX_METRICS, recall_metrics
from components.steps.summary import _class_figures as figures_in_result
from nascore.evaluation.class_metrics import class_figures
from nascore.report import classes


def model_of(folder: Path, num_classes: int) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % num_classes
    logits = rng.normal(size=(200, num_classes))
    names = [f"class {place}" for place in range(num_classes)]
    figures = asdict(class_figures(logits, labels, names))
    (folder / "model.json").write_text(json.dumps({"figures": figures}))
    return folder


def test_kubeflow_gets_matrix_and_curve(tmp_path: Path) -> None:
    """Numbers only: infinity is no JSON, and the UI refuses the whole artifact then."""
    logged = ClassificationMetrics()
    log_classes(logged, model_of(tmp_path, 3))
    matrix = logged.metadata["confusionMatrix"]
    assert [one["displayName"] for one in matrix["annotationSpecs"]] == [
        "class 0",
        "class 1",
        "class 2",
    ]
    assert sum(sum(row["row"]) for row in matrix["rows"]) == 200
    curve = logged.metadata["confidenceMetrics"]
    assert 10 < len(curve) <= 100
    thresholds = [point["confidenceThreshold"] for point in curve]
    assert thresholds == sorted(thresholds, reverse=True)
    assert len(json.dumps(logged.metadata, allow_nan=False)) < 20_000


def test_kubeflow_gets_no_matrix_that_its_page_cannot_show(tmp_path: Path) -> None:
    logged = ClassificationMetrics()
    log_classes(logged, model_of(tmp_path, MAX_CLASSES + 1))
    assert "confusionMatrix" not in logged.metadata
    assert "confidenceMetrics" in logged.metadata


def test_few_shot_networks_have_none(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"figures": None}))
    logged = ClassificationMetrics()
    log_classes(logged, tmp_path)
    assert not logged.metadata
    assert set(figures_in_result(None).values()) == {None}


def test_any_name_of_a_class_is_a_metric_of_mlflow() -> None:
    names = ["fine", "a/b", "a:b", "..", "Größe 5", "x" * 300, "50 %"]
    found = recall_metrics({name: {"recall": 0.5} for name in names} | {"none": {"recall": None}})
    assert len(found) == len(names), "none is lost, also where two names become the same"
    for name in found:
        _validate_metric_name(name)
    assert "test_recall/fine" in found
    assert recall_metrics({str(i): {"recall": 1.0} for i in range(MAX_METRICS + 1)}) == {}


def test_the_drawing_is_a_file_of_its_own(tmp_path: Path) -> None:
    figures = json.loads((model_of(tmp_path, 3) / "model.json").read_text())["figures"]
    matrix = classes.matrix(figures)
    assert matrix is not None
    matrix.save(tmp_path / "matrix.svg")
    root = ElementTree.parse(tmp_path / "matrix.svg").getroot()
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("class 1") == 2
    assert str(figures["confusion"][0][0]) in texts
