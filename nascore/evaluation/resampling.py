"""Scores of a classifier on images drawn with replacement within their classes.

`nascore.evaluation.class_metrics.score` gives the same values, but scikit-learn checks and sorts
its input in each call: minutes instead of seconds for thousands of samples. N images sorted by
class, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from nascore.config import Objective


class Resampled:
    """Logits of one network, prepared for scores on many samples of the images.

    Args:
        objective: `balanced_accuracy`, `macro_f1` or `auroc`.
        logits_NK: logits, in any order of images.
        labels_N: classes of these images.
    """

    def __init__(
        self, objective: Objective, logits_NK: NDArray[Any], labels_N: NDArray[Any]
    ) -> None:
        self._objective = objective
        order_N = np.argsort(labels_N, kind="stable")
        self._labels_N, logits_NK = labels_N[order_N], logits_NK[order_N].astype(np.float64)
        self._present_P, self._starts_P, self._counts_P = np.unique(
            self._labels_N, return_index=True, return_counts=True
        )
        self._num_classes = logits_NK.shape[1]
        self._cells_N = self._labels_N * self._num_classes + logits_NK.argmax(1)
        self._rankings = []
        if objective == "auroc":
            probabilities_NK = softmax(logits_NK, axis=1)
            self._rankings = [_Ranking(probabilities_NK[:, k]) for k in self._present_P]

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return places of as many images of each class as there are, with replacement."""
        starts_N, counts_N = (
            np.repeat(v, self._counts_P) for v in (self._starts_P, self._counts_P)
        )
        places_N: NDArray[np.int64] = starts_N + (rng.random(len(starts_N)) * counts_N).astype(int)
        return places_N

    def score(self, places_N: NDArray[np.int64]) -> float:
        """Return the score on the images at these places, which `draw` has returned."""
        if self._objective == "auroc":
            weights_N = np.bincount(places_N, minlength=len(self._labels_N)).astype(np.float64)
            areas = [
                ranking.area(weights_N, self._labels_N == k)
                for ranking, k in zip(self._rankings, self._present_P, strict=True)
            ]
            return float(np.mean(areas))
        size = self._num_classes
        confusion_KK = np.bincount(self._cells_N[places_N], minlength=size**2).reshape(size, size)
        right_P = np.diag(confusion_KK)[self._present_P]
        true_P = confusion_KK.sum(1)[self._present_P]
        if self._objective == "balanced_accuracy":
            return float((right_P / true_P).mean())
        return float((2 * right_P / (true_P + confusion_KK.sum(0)[self._present_P])).mean())


class _Ranking:
    """Images ordered by the probability of one class; equal probabilities are one group."""

    def __init__(self, probability_N: NDArray[np.float64]) -> None:
        self._order_N = np.argsort(probability_N, kind="stable")
        is_new_N = np.diff(probability_N[self._order_N], prepend=-1.0) > 0
        self._starts_G = np.flatnonzero(is_new_N)

    def area(self, weights_N: NDArray[np.float64], is_class_N: NDArray[np.bool_]) -> float:
        """Return the area under the ROC curve: how often an image of the class is above another.

        Ties count half.
        """
        own_N, other_N = weights_N * is_class_N, weights_N * ~is_class_N
        own_G, other_G = (
            np.add.reduceat(one_N[self._order_N], self._starts_G) for one_N in (own_N, other_N)
        )
        below_G = np.cumsum(other_G) - other_G
        return float((own_G * (below_G + other_G / 2)).sum() / (own_N.sum() * other_N.sum()))
