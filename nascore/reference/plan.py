"""Which networks are compared with a found one, and their training time. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FOUND, CONTROL = "found", "control"
"""Names of the network of the search and of that of the random control."""
MIN_SECONDS = 60.0
"""Search and final training together; below it, the default networks are not trained."""
MIN_EPOCHS = 5
"""Epochs that a default network must complete in its time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The comparison of a run.

    Attributes:
        compares: whether any network is trained.
        seconds: wall time of the training of each reference network.
        names: of the reference networks; None for the default ones.
        reason: why nothing is compared; empty if something is.
    """

    compares: bool
    seconds: float = 0.0
    names: tuple[str, ...] | None = None
    reason: str = ""


def make_plan(
    names: Sequence[str] | None, *, share: float, cost_s: float, has_fixed_classes: bool
) -> Plan:
    """Return the plan of a comparison.

    Args:
        names: setting `reference`.
        share: setting `reference_share`.
        cost_s: seconds of the search, its control not included, and of the final training.
        has_fixed_classes: whether training and test images have the same classes.
    """
    if names is not None and not names:
        return Plan(compares=False, reason="reference is []")
    if not has_fixed_classes:
        return Plan(compares=False, reason="it learns the classes of each few-shot task")
    if names is None and cost_s < MIN_SECONDS:
        reason = (
            f"search and final training took {cost_s:.0f} s, less than the {MIN_SECONDS:.0f} s "
            "from which on it says something; `reference` names networks to train anyway"
        )
        return Plan(compares=False, reason=reason)
    return Plan(
        compares=True, seconds=share * cost_s, names=None if names is None else tuple(names)
    )


def without_comparison(reason: str) -> dict[str, Any]:
    """Return the comparison of a run in which no other network was trained, as JSON."""
    why = f"The found network was compared with no standard network: {reason}."
    return {
        "seconds": 0.0,
        "found": None,
        "control": None,
        "references": [],
        "left_out": [],
        "recommendation": {"ship": FOUND, "why": why},
    }
