"""Metrics of a classifier on one split: per class, means over classes, and confused classes.

The formulas are scikit-learn's (docs/metrics.md has the definitions). Classes without an image in
the split have no metrics, and means over classes exclude them. N images, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn import metrics as sk

from nascore.config import Objective
from nascore.errors import ChildFailedError

NUM_BINS = 15
"""Bins of equal width of the confidence, for the expected calibration error."""
_MOST_PAIRS = 10
_EXAMPLES = 4
_ROC_POINTS = 100

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def score(objective: Objective, logits_NK: Floats, labels_N: Labels) -> float:
    """Return the score that a search maximises, a fraction.

    Args:
        objective: metric.
        logits_NK: logits of the network.
        labels_N: classes of the images.

    Raises:
        ChildFailedError: The logits are not finite, so images cannot be ranked.
    """
    predicted_N = logits_NK.argmax(1)
    present = np.unique(labels_N)
    if objective == "accuracy":
        return float(sk.accuracy_score(labels_N, predicted_N))
    if objective == "balanced_accuracy":
        return float(_mean_recall(labels_N, predicted_N, present))
    if objective == "macro_f1":
        return float(_mean_f1(labels_N, predicted_N, present))
    if not np.isfinite(logits_NK).all():
        raise ChildFailedError("outputs of the network are not finite, so there is no AUROC")
    auroc = macro_auroc(softmax(logits_NK.astype(np.float64), axis=1), labels_N)
    return 0.5 if auroc is None else auroc  # a small batch of one class has no order


def macro_auroc(probabilities_NK: Floats, labels_N: Labels) -> float | None:
    """Return the mean area of each class against all others; None where there is only one."""
    present = np.unique(labels_N)
    if len(present) < 2:
        return None
    areas = [sk.roc_auc_score(labels_N == k, probabilities_NK[:, k]) for k in present]
    return float(np.mean(areas))


def calibration_error(probabilities_NK: Floats, labels_N: Labels) -> float:
    """Return the mean difference of confidence and accuracy in bins of the confidence.

    Bins are weighted by their images.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    confidence_N = probabilities_NK.max(1)
    surplus_N = (probabilities_NK.argmax(1) == labels_N) - confidence_N
    bins_N = np.minimum((confidence_N * NUM_BINS).astype(int), NUM_BINS - 1)
    sums_B = np.bincount(bins_N, weights=surplus_N, minlength=NUM_BINS)
    return float(np.abs(sums_B).sum() / len(labels_N))


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Metrics of a network with fixed classes, ready for JSON.

    Attributes:
        per_class: precision, recall, F1 (None where they are not defined) and support, by name.
        macro_auroc: None where only one class has images, or outputs are not finite.
        calibration_error: expected calibration error of the predicted class; None where outputs
            are not finite.
        confusion: images by true class (rows) and predicted class (columns), as `per_class`.
        confused: the most confused pairs: `true`, `predicted`, `count`, and `examples`, places in
            the split.
        roc: points of the curve, `fpr`, `tpr` and `thresholds`; of the second class against the
            first of two, else micro-averaged over all classes. None as `macro_auroc`.
    """

    per_class: dict[str, dict[str, Any]]
    balanced_accuracy: float
    macro_f1: float
    macro_auroc: float | None
    calibration_error: float | None
    confusion: list[list[int]]
    confused: list[dict[str, Any]]
    roc: dict[str, list[float]] | None


def class_figures(logits_NK: Floats, labels_N: Labels, classes: Sequence[str]) -> ClassFigures:
    """Return the metrics of one split.

    Args:
        logits_NK: logits of the network.
        labels_N: classes of the images.
        classes: names by label.
    """
    predicted_N, places = logits_NK.argmax(1), np.arange(len(classes))
    present = np.unique(labels_N)
    confusion_KK = sk.confusion_matrix(labels_N, predicted_N, labels=places)
    columns = sk.precision_recall_fscore_support(
        labels_N, predicted_N, labels=places, zero_division=np.nan
    )
    probabilities_NK = softmax(logits_NK.astype(np.float64), axis=1)
    is_finite = bool(np.isfinite(probabilities_NK).all())
    auroc = macro_auroc(probabilities_NK, labels_N) if is_finite else None
    return ClassFigures(
        per_class={
            name: _row(*(column[k] for column in columns)) for k, name in enumerate(classes)
        },
        balanced_accuracy=float(_mean_recall(labels_N, predicted_N, present)),
        macro_f1=float(_mean_f1(labels_N, predicted_N, present)),
        macro_auroc=auroc,
        calibration_error=calibration_error(probabilities_NK, labels_N) if is_finite else None,
        confusion=confusion_KK.tolist(),
        confused=_confused(confusion_KK, labels_N, predicted_N, classes),
        roc=None if auroc is None else _roc(probabilities_NK, labels_N),
    )


def recalls(predicted_N: Labels, labels_N: Labels, classes: Sequence[str]) -> dict[str, float]:
    """Return the recall of each class that has images."""
    present = np.unique(labels_N)
    found = sk.recall_score(labels_N, predicted_N, labels=present, average=None, zero_division=0)
    return {classes[k]: float(recall) for k, recall in zip(present, found, strict=True)}


def _mean_recall(labels_N: Labels, predicted_N: Labels, present: Labels) -> Any:
    """Return the mean recall; `balanced_accuracy_score` warns of classes without an image."""
    return sk.recall_score(labels_N, predicted_N, labels=present, average="macro", zero_division=0)


def _mean_f1(labels_N: Labels, predicted_N: Labels, present: Labels) -> Any:
    return sk.f1_score(labels_N, predicted_N, labels=present, average="macro", zero_division=0)


def _row(precision: float, recall: float, f1: float, support: int) -> dict[str, Any]:
    values = {"precision": precision, "recall": recall, "f1": f1}
    is_known = {name: support > 0 and not np.isnan(value) for name, value in values.items()}
    known = {name: float(value) if is_known[name] else None for name, value in values.items()}
    return {**known, "support": int(support)}


def _confused(
    confusion_KK: Labels, labels_N: Labels, predicted_N: Labels, classes: Sequence[str]
) -> list[dict[str, Any]]:
    wrong_KK = confusion_KK - np.diag(np.diag(confusion_KK))
    order = np.argsort(-wrong_KK, axis=None, kind="stable")[:_MOST_PAIRS]
    pairs = [divmod(int(place), len(classes)) for place in order]
    return [
        {
            "true": classes[true],
            "predicted": classes[other],
            "count": int(wrong_KK[true, other]),
            "examples": np.flatnonzero((labels_N == true) & (predicted_N == other))[
                :_EXAMPLES
            ].tolist(),
        }
        for true, other in pairs
        if wrong_KK[true, other]
    ]


def _roc(probabilities_NK: Floats, labels_N: Labels) -> dict[str, list[float]]:
    is_class_NK = labels_N[:, None] == np.arange(probabilities_NK.shape[1])
    if probabilities_NK.shape[1] == 2:
        is_class_NK, probabilities_NK = is_class_NK[:, 1:], probabilities_NK[:, 1:]
    fpr, tpr, thresholds = sk.roc_curve(is_class_NK.ravel(), probabilities_NK.ravel())
    thresholds[0] = 1.0  # scikit-learn has infinity here, which is no JSON; no image is above 1
    kept = np.unique(np.linspace(0, len(fpr) - 1, _ROC_POINTS).round().astype(int))
    curve = {"fpr": fpr, "tpr": tpr, "thresholds": thresholds}
    return {name: values[kept].tolist() for name, values in curve.items()}
