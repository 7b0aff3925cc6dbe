"""Which of the compared networks to ship: by validation score, among equals a standard network.

The burden of proof lies with the search: its network is shipped where it is better than the
standard ones by more than chance, which is more than two standard errors. Of found networks within
one standard error, more were worse than better on the test images
(docs/results/shipped_network.md). The test images have no part in the
choice, so that the test accuracy of the chosen network is not optimistic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import OBJECTIVES, Objective
from nascore.evaluation.paired_bootstrap import compare_classifiers
from nascore.figures import formatting
from nascore.reference.plan import CONTROL, FOUND

_ONE_SIGMA = 0.6827  # share of a normal distribution within one standard deviation
_TEXTS = {
    FOUND: "The found network",
    CONTROL: "The network of the random control",
    "standard": "The standard network",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """A trained network that could be shipped.

    Attributes:
        valid_score: in the metric of the search, fraction.
        latency_ms: median.
        valid_logits_NK: of the validation images, which are the same for all contenders.
    """

    name: str
    valid_score: float
    latency_ms: float
    valid_logits_NK: NDArray[Any]

    @property
    def text(self) -> str:
        """Name at the beginning of a sentence."""
        return _TEXTS.get(self.name, self.name)

    @property
    def is_searched(self) -> bool:
        """Whether a search or its control has found it."""
        return self.name in (FOUND, CONTROL)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Name of the network to ship, and why, as one sentence."""

    ship: str
    why: str


def recommend(
    contenders: Sequence[Contender],
    labels_N: NDArray[Any],
    *,
    objective: Objective,
    rng: np.random.Generator,
) -> Recommendation:
    """Return the recommended network.

    The network with the highest validation score is compared with each other one: a difference of
    at most one standard error of the paired difference is a tie, of at most two between a searched
    network and one that is worse and was not searched. Of the tied networks, those that were not
    searched come first, and of these the one with the lowest latency is recommended.

    Args:
        contenders: at least one; of equal ones the first is recommended.
        labels_N: classes of the validation images.
        objective: metric of the scores.
        rng: draws the resamples where the metric is not the accuracy.
    """
    best = max(contenders, key=lambda one: one.valid_score)
    others = [one for one in contenders if one is not best]
    errors = {
        one.name: standard_error(best, one, labels_N, objective=objective, rng=rng)
        for one in others
    }
    tied = [
        one
        for one in contenders
        if one is best or best.valid_score - one.valid_score <= _limit(best, one, errors[one.name])
    ]
    chosen = min(tied, key=lambda one: (one.is_searched, one.latency_ms))
    figure = f"validation {OBJECTIVES[objective]}"
    if not others:
        shown = _shown(best, best, None)
        return Recommendation(best.name, f"No other network may be shipped than {shown}.")
    lead = _lead(chosen, best, tied, figure)
    shown = ", ".join(_shown(one, best, errors.get(one.name)) for one in contenders)
    return Recommendation(chosen.name, f"{lead}: {shown}.{_faster_found(chosen, tied)}")


def _limit(best: Contender, other: Contender, error: float) -> float:
    """Return the largest difference that is a tie.

    It is rounded up: a difference of one image has a standard error of exactly this difference.
    """
    factor = 2 if best.is_searched and not other.is_searched else 1
    return factor * error * (1 + 1e-9)


def _lead(chosen: Contender, best: Contender, tied: Sequence[Contender], figure: str) -> str:
    """Return which rule decided, as the beginning of a sentence."""
    if len(tied) == 1:
        return f"{best.text} has the highest {figure}, by more than one standard error"
    peers = [one for one in tied if one.is_searched == chosen.is_searched]
    needs_two = best.is_searched and not chosen.is_searched
    limit = "two standard errors" if needs_two else "one standard error"
    first = "has the" if chosen is best else f"is within {limit} of the"
    reasons = [f"{chosen.text} {first} highest {figure}"]
    if len(peers) > 1:
        kind = "searched" if chosen.is_searched else "standard"
        reasons.append(f"is the fastest of the {kind} networks within {limit}")
    if needs_two:
        reasons.append(f"{_inside(best.text)} has to be better by more than that")
    return ", and ".join(reasons)


def _faster_found(chosen: Contender, tied: Sequence[Contender]) -> str:
    """Return a sentence about the found network where it is tied and faster."""
    for one in tied:
        if one.name == FOUND and one is not chosen and one.latency_ms < chosen.latency_ms:
            return " The found network is faster; registry.ship=found registers it."
    return ""


def _shown(one: Contender, best: Contender, error: float | None) -> str:
    """Return score and latency of a network, and how far it is below the best one."""
    score, latency = formatting.percent(one.valid_score), formatting.milliseconds(one.latency_ms)
    text = f"{_inside(one.text)} {score} at {latency}"
    if error is None:
        return text
    difference = 100 * (best.valid_score - one.valid_score)
    return f"{text} ({difference:.2f} points lower, standard error {100 * error:.2f})"


def _inside(text: str) -> str:
    """Return the name of a network inside a sentence."""
    return text.replace("The ", "the ", 1)


def standard_error(
    one: Contender,
    other: Contender,
    labels_N: NDArray[Any],
    *,
    objective: Objective,
    rng: np.random.Generator,
) -> float:
    """Return the standard error of the paired difference of two validation scores.

    Args:
        one, other: the networks.
        labels_N: classes of the validation images.
        objective: of the scores; only the accuracy has a formula, others are resampled.
        rng: draws the resamples.
    """
    logits = one.valid_logits_NK, other.valid_logits_NK
    if objective == "accuracy":
        own_N, other_N = ((one_NK.argmax(1) == labels_N).astype(float) for one_NK in logits)
        return float((own_N - other_N).std(ddof=1) / np.sqrt(len(labels_N)))
    compared = compare_classifiers(
        *logits, labels_N, objective=objective, rng=rng, confidence=_ONE_SIGMA
    )
    return (compared.upper - compared.lower) / 2
