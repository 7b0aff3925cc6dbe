"""Logs the figures of each class to MLflow: metrics, tables and the confusion matrix."""

import re
from collections.abc import Mapping
from typing import Any

from components.steps.runtime import Step
from nascore.report import classes
from nascore.training.final_model import FinalModel

MAX_METRICS = 100
"""Most classes with a metric of their own in MLflow; the table has all classes."""
_MEANS = ("balanced_accuracy", "macro_f1", "macro_auroc", "calibration_error")
_MAX_NAME = 200


def mean_metrics(final: FinalModel) -> dict[str, float]:
    """Return the means over the classes of the test split, and the objective if not the accuracy.

    Few-shot networks have no fixed classes, and so no means.
    """
    figures = final.figures or {}
    means = {f"test_{name}": figures[name] for name in _MEANS if figures.get(name) is not None}
    if final.objective == "accuracy" or final.valid_score is None:
        return means
    return means | {f"valid_{final.objective}": final.valid_score}


def track_classes(step: Step, result: Mapping[str, Any]) -> None:
    """Log metrics, `per_class.json`, `confused.json` and `confusion_matrix.png` to the pipeline.

    Args:
        step: the running step.
        result: content of `result.json`.
    """
    per_class = result["per_class"]
    if per_class is None:
        return
    step.parent.metrics(recall_metrics(per_class))
    rows = [{"class": name, **row} for name, row in per_class.items()]
    step.parent.table(rows, "per_class.json")
    if result["confused"]:
        columns = ("true", "predicted", "count")
        pairs = [{name: pair[name] for name in columns} for pair in result["confused"]]
        step.parent.table(pairs, "confused.json")
    matrix = classes.matrix(result)
    if matrix is not None:
        path = step.state / "confusion_matrix.png"
        matrix.save(path)
        step.parent.artifact(path, "figures")


def recall_metrics(per_class: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the recall of each class under a name that MLflow accepts; empty for many classes."""
    if len(per_class) > MAX_METRICS:
        return {}
    metrics: dict[str, float] = {}
    for label, (name, row) in enumerate(per_class.items()):
        if row["recall"] is None:
            continue
        # MLflow refuses names that end in "/." or "/..", as paths do.
        shown = re.sub(r"[^\w .-]|^\.+$", "_", name)[:_MAX_NAME]
        key = f"test_recall/{shown}"
        metrics[f"{key}.{label}" if key in metrics else key] = row["recall"]
    return metrics
