"""Whether one trained network is better than another on the same test images."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUM_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Accuracies are fractions; `difference` is new minus old.

    Attributes:
        lower, upper: of the two-sided percentile bootstrap interval of the difference.
    """

    new_accuracy: float
    old_accuracy: float
    difference: float
    lower: float
    upper: float
    confidence: float
    num_images: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_paired(
    new_correct: NDArray[np.bool_],
    old_correct: NDArray[np.bool_],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> PairedComparison:
    """The paired bootstrap over images: what both get right or wrong says nothing, so an interval
    of pairs is narrower than two intervals apart (Efron & Tibshirani, An Introduction to the
    Bootstrap, 1993, chapters 8 and 13).

    Drawing images with replacement is drawing how many of them only the new one, only the old one,
    and both or neither get right: one multinomial draw a resample.

    Args:
        new_correct, old_correct: whether each image is classified right, shape (N,), same order.

    Raises:
        ValueError: the shapes differ or are empty.
    """
    if new_correct.shape != old_correct.shape or new_correct.ndim != 1 or not len(new_correct):
        raise ValueError(
            f"need two equal shapes (N,) with N >= 1, got {new_correct.shape} and "
            f"{old_correct.shape}"
        )
    count = len(new_correct)
    gained = int((new_correct & ~old_correct).sum())
    lost = int((old_correct & ~new_correct).sum())
    shares = np.array([gained, lost, count - gained - lost]) / count
    draws = rng.multinomial(count, shares, size=_NUM_RESAMPLES)
    tail = 50 * (1 - confidence)
    lower, upper = np.percentile((draws[:, 0] - draws[:, 1]) / count, [tail, 100 - tail])
    return PairedComparison(
        new_accuracy=float(new_correct.mean()),
        old_accuracy=float(old_correct.mean()),
        difference=(gained - lost) / count,
        lower=float(lower),
        upper=float(upper),
        confidence=confidence,
        num_images=count,
    )
