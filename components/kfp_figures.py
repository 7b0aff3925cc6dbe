"""Logs figures of each class in KFP's own format. Imports little, as `kfp_components` does."""

import json
from pathlib import Path
from typing import Any, Protocol

MAX_CLASSES = 50
"""Of a confusion matrix: the UI draws all in 700 pixels and stores it in one database row."""


class ClassificationMetrics(Protocol):
    """The methods of `kfp.dsl.ClassificationMetrics` that are used here."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> Any: ...

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> Any: ...


def log_classes(into: ClassificationMetrics, model: Path) -> None:
    """Log confusion matrix and ROC curve of a model folder; nothing for few-shot networks."""
    figures = json.loads((model / "model.json").read_text())["figures"]
    if figures is None:
        return
    names = list(figures["per_class"])
    if len(names) <= MAX_CLASSES:
        into.log_confusion_matrix(names, figures["confusion"])
    if figures["roc"] is not None:
        into.log_roc_curve(*(figures["roc"][name] for name in ("fpr", "tpr", "thresholds")))
