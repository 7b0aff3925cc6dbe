"""Paired comparison of two trained networks on the same test images or tasks."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import Objective
from nascore.evaluation.resampling import Resampled

_NUM_RESAMPLES = 10_000
_NUM_CLASSWISE = 2_000  # each resample scores all images again


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Difference of two networks and its interval, as fractions.

    Attributes:
        difference: new minus old score.
        lower, upper: ends of the two-sided percentile bootstrap interval of the difference.
        confidence: level of that interval.
        num_images: images, or tasks, on which both were evaluated.
        new_score, old_score: in the metric of `objective`.
        objective: metric that is compared.
    """

    new_accuracy: float
    old_accuracy: float
    difference: float
    lower: float
    upper: float
    confidence: float
    num_images: int
    new_score: float
    old_score: float
    objective: Objective = "accuracy"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return asdict(self)


def compare_paired(
    new_correct: NDArray[Any],
    old_correct: NDArray[Any],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> PairedComparison:
    """Compare the accuracy of two networks by a paired bootstrap over images.

    Images on which both are right, or both wrong, carry no information, so an interval over pairs
    is narrower than two separate intervals (Efron & Tibshirani, An Introduction to the Bootstrap,
    1993, chapters 8 and 13).

    Drawing images with replacement is drawing how many of them only the new network, only the old
    one, and both or neither classify correctly: one multinomial draw for each resample.
    `scipy.stats.bootstrap` draws an index for each image, ten thousand times as many numbers for
    the same distribution.

    Args:
        new_correct, old_correct: whether each image is classified correctly, or the fraction of
            each task, shape (N,), same order. Tasks are drawn as wholes, since their images are
            not independent.
        rng: draws the resamples.
        confidence: level of the interval.

    Raises:
        ValueError: the shapes differ or are empty.
    """
    if new_correct.shape != old_correct.shape or new_correct.ndim != 1 or not len(new_correct):
        raise ValueError(
            f"need two equal shapes (N,) with N >= 1, got {new_correct.shape} and "
            f"{old_correct.shape}"
        )
    count = len(new_correct)
    differences = new_correct.astype(np.float64) - old_correct
    tail = 50 * (1 - confidence)
    lower, upper = np.percentile(_resampled(differences, rng), [tail, 100 - tail])
    return PairedComparison(
        new_accuracy=float(new_correct.mean()),
        old_accuracy=float(old_correct.mean()),
        difference=float(differences.sum()) / count,
        lower=float(lower),
        upper=float(upper),
        confidence=confidence,
        num_images=count,
        new_score=float(new_correct.mean()),
        old_score=float(old_correct.mean()),
    )


def compare_classifiers(
    new_logits_NK: NDArray[Any],
    old_logits_NK: NDArray[Any],
    labels_N: NDArray[Any],
    *,
    objective: Objective,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> PairedComparison:
    """Compare two networks in any objective by a paired bootstrap.

    Accuracy is a mean over images: see `compare_paired`. For other objectives the same images are
    drawn for both networks, and both are scored on them. Images are drawn within their classes, so
    that no resample lacks a rare class; the interval holds for these numbers of images of each
    class. `scipy.stats.bootstrap` cannot draw within classes.

    Args:
        new_logits_NK, old_logits_NK: logits for the same images.
        labels_N: classes of these images.
        objective: metric to compare.
        rng: draws the resamples.
        confidence: level of the interval.

    Raises:
        ValueError: the shapes differ or are empty.
    """
    rights = [one.argmax(1) == labels_N for one in (new_logits_NK, old_logits_NK)]
    if objective == "accuracy":
        return compare_paired(*rights, rng=rng, confidence=confidence)
    own, other = (
        Resampled(objective, logits_NK, labels_N) for logits_NK in (new_logits_NK, old_logits_NK)
    )
    differences = []
    for _ in range(_NUM_CLASSWISE):
        places_N = own.draw(rng)
        differences.append(own.score(places_N) - other.score(places_N))
    tail = 50 * (1 - confidence)
    lower, upper = np.percentile(differences, [tail, 100 - tail])
    everything_N = np.arange(len(labels_N))
    new_score, old_score = own.score(everything_N), other.score(everything_N)
    return PairedComparison(
        new_accuracy=float(rights[0].mean()),
        old_accuracy=float(rights[1].mean()),
        difference=new_score - old_score,
        lower=float(lower),
        upper=float(upper),
        confidence=confidence,
        num_images=len(labels_N),
        objective=objective,
        new_score=new_score,
        old_score=old_score,
    )


def _resampled(differences_N: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return means of samples with replacement, drawn as counts of equal differences."""
    values_V, counts_V = np.unique(differences_N, return_counts=True)
    count = len(differences_N)
    draws_RV = rng.multinomial(count, counts_V / count, size=_NUM_RESAMPLES)
    means: NDArray[np.float64] = draws_RV @ values_V / count
    return means
