"""The gain of an architecture for each image, as two paired comparisons on the same images.

1. With the *same policies assigned to other images*, at the same mean latency to the bit: the
   difference is what the policies gain from their images.
2. With the *best of random networks* that are the same for all images, trained for as long and no
   slower: the control of the search.

The search is better than its control only if both differences are above zero.
"""

from typing import Any

import numpy as np
from torch import Tensor

from nascore.evaluation.paired_bootstrap import PairedComparison, compare_paired
from nascore.evaluation.verdict import Outcome

_CONFIDENCE = 0.95
_STATISTIC = "paired bootstrap over the validation images"


def compare(own_N: Tensor, others_N: Tensor, rng: np.random.Generator) -> PairedComparison:
    """Compare which images two networks classify correctly, bool (N,) each."""
    return compare_paired(own_N.numpy(), others_N.numpy(), rng=rng, confidence=_CONFIDENCE)


def verdict(shuffled: PairedComparison, static: PairedComparison | None) -> dict[str, Any]:
    """Return the verdict: `nascore.evaluation.verdict.Verdict.to_dict` and both comparisons.

    Args:
        static: None where there was no control.
    """
    both = [one for one in (static, shuffled) if one is not None]
    main = both[0]
    return {
        "outcome": _outcome(both),
        "difference": main.difference,
        "interval": [main.lower, main.upper],
        "confidence": _CONFIDENCE,
        "p_value": None,
        "margin": None,
        "best_difference": None,
        "num_method": main.num_images,
        "num_control": main.num_images,
        "statistic": _STATISTIC,
        "statement": " ".join(_static_sentences(static) + _shuffled_sentences(shuffled)),
        "shuffled": shuffled.to_dict(),
        "static": None if static is None else static.to_dict(),
    }


def _outcome(comparisons: list[PairedComparison]) -> Outcome:
    if all(one.lower > 0 for one in comparisons):
        return "better"
    if any(one.difference <= 0 for one in comparisons):
        return "not better"
    return "undecided"


def _static_sentences(static: PairedComparison | None) -> list[str]:
    if static is None:
        return []
    start = {
        "better": "InstaNAS beat random search at equal cost",
        "not better": "InstaNAS did not beat random search at equal cost",
        "undecided": "It is undecided whether InstaNAS beats random search at equal cost",
    }[_outcome([static])]
    return [
        f"{start}: {_points(static)} compared with the best of random networks, the same for all "
        "images and no slower."
    ]


def _shuffled_sentences(shuffled: PairedComparison) -> list[str]:
    start = {
        "better": "An architecture for each image gives a gain",
        "not better": "An architecture for each image gives no gain",
        "undecided": "It is undecided whether an architecture for each image gives a gain",
    }[_outcome([shuffled])]
    return [
        f"{start}: {_points(shuffled)} compared with the same architectures assigned to other "
        "images."
    ]


def _points(one: PairedComparison) -> str:
    low, high = 100 * one.lower, 100 * one.upper
    return (
        f"{100 * one.difference:+.2f} points ({one.confidence:.0%} interval {low:+.2f} to "
        f"{high:+.2f})"
    )
