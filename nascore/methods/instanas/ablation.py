"""Did it help that each image has an architecture of its own?

Two answers, each a paired comparison on the same images:

1. against the *same policies given to other images*, at the same mean latency to the bit: what is
   lost then is what the policies know of their images;
2. against the *best of random networks* that are the same for all images, trained for as long and
   no slower: the control of a search, as everywhere.

The search has earned its cost only if both are above zero.
"""

from typing import Any

import numpy as np
from torch import Tensor

from nascore.evaluation.paired_bootstrap import PairedComparison, compare_paired
from nascore.evaluation.verdict import Outcome

_CONFIDENCE = 0.95
_STATISTIC = "paired bootstrap over the validation images"


def compare(own_N: Tensor, others_N: Tensor, rng: np.random.Generator) -> PairedComparison:
    """Whether images are classified right by their own policies, and by something else; bool."""
    return compare_paired(own_N.numpy(), others_N.numpy(), rng=rng, confidence=_CONFIDENCE)


def verdict(shuffled: PairedComparison, static: PairedComparison | None) -> dict[str, Any]:
    """As `nascore.evaluation.verdict.Verdict.to_dict`, where it applies, with both comparisons
    beside.

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
        "statement": " ".join(_static_words(static) + _shuffled_words(shuffled)),
        "shuffled": shuffled.to_dict(),
        "static": None if static is None else static.to_dict(),
    }


def _outcome(comparisons: list[PairedComparison]) -> Outcome:
    if all(one.lower > 0 for one in comparisons):
        return "better"
    if any(one.difference <= 0 for one in comparisons):
        return "not better"
    return "undecided"


def _static_words(static: PairedComparison | None) -> list[str]:
    if static is None:
        return []
    told = {
        "better": "InstaNAS beat random search at equal cost",
        "not better": "InstaNAS did not beat random search at equal cost",
        "undecided": "It is undecided whether InstaNAS beats random search at equal cost",
    }[_outcome([static])]
    return [
        f"{told}: {_points(static)} against the best of random networks, the same for all images "
        "and no slower."
    ]


def _shuffled_words(shuffled: PairedComparison) -> list[str]:
    told = {
        "better": "That each image has an architecture of its own bought",
        "not better": "That each image has an architecture of its own bought nothing:",
        "undecided": "It is undecided whether it helps that each image has an architecture of its "
        "own:",
    }[_outcome([shuffled])]
    return [f"{told} {_points(shuffled)} against the same architectures given to other images."]


def _points(one: PairedComparison) -> str:
    low, high = 100 * one.lower, 100 * one.upper
    return (
        f"{100 * one.difference:+.2f} points ({one.confidence:.0%} interval {low:+.2f} to "
        f"{high:+.2f})"
    )
