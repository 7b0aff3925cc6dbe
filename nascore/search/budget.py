"""A budget is a promise: what a search may spend, and whether one more child fits.

What is spent is read from the children themselves, so a search that is started again knows what it
has used, and workers that share a study share its budget. `seconds` are those of the clock on the
wall, however many workers there are. A GPU-hour is an hour of one device; on a CPU the machine is
the device.
"""

import time
from collections.abc import Sequence

from nascore.config import BudgetConfig
from nascore.results import Child
from nascore.search.study import OpenChild

_TOLERANCE = 0.01  # of the time; a child under way at its end is then cut off


class Budget:
    """Counts one arm against its limit.

    Args:
        config: unit and amount.
        num_devices: GPUs that each worker uses; matters for `gpu_hours` only.
        prior_cost_s: seconds that are already spent on what is no child, such as a coder.

    Attributes:
        before_s: seconds that the search had cost when this process came.
    """

    def __init__(
        self, config: BudgetConfig, *, num_devices: int = 1, prior_cost_s: float = 0.0
    ) -> None:
        self.unit = config.unit
        self.amount = config.amount
        self._num_devices = num_devices
        self._charged_s = prior_cost_s
        self._start = time.monotonic()
        self.before_s = 0.0

    def resume(self, children: Sequence[Child]) -> None:
        """Counts the time in which `children` were trained before this process came."""
        self.before_s = _covered(children)

    def fits(
        self, children: Sequence[Child], ahead: Sequence[OpenChild], *, child_steps: int
    ) -> bool:
        """Whether one more child can finish within what is left.

        Args:
            children: those that have ended.
            ahead: those under way, which come first.
            child_steps: weight updates that a child takes.
        """
        if self.unit == "children":
            trained = sum(not child.is_rejected for child in children)
            return trained + len(ahead) + 1 <= self.amount
        if self.unit == "steps":
            spent = sum(child.num_steps for child in children)
            return spent + (len(ahead) + 1) * child_steps <= self.amount
        shortest = min((child.duration_s for child in children if child.scores), default=0.0)
        left = self.seconds_left(children, ahead)
        return left is not None and left > shortest

    def seconds_left(
        self, children: Sequence[Child], ahead: Sequence[OpenChild] = ()
    ) -> float | None:
        """How long one more child may take; None when the budget is not one of time.

        Of GPU-hours, those under way take their share of what is left.
        """
        if self.unit == "seconds":
            return self.amount - self._charged_s - self.before_s - self._elapsed_s
        if self.unit == "gpu_hours":
            now = time.time()
            spent_s = self._charged_s + sum(child.duration_s for child in children)
            spent_s += sum(max(0.0, now - child.started_s) for child in ahead)
            return (self.amount * 3600 / self._num_devices - spent_s) / (len(ahead) + 1)
        return None

    def cut_off_s(self, children: Sequence[Child], ahead: Sequence[OpenChild]) -> float | None:
        """After how many seconds a child that starts now has to be cut off, late by 1 %."""
        left = self.seconds_left(children, ahead)
        if left is None:
            return None
        total_s = self.amount if self.unit == "seconds" else self.amount * 3600 / self._num_devices
        return left + _TOLERANCE * total_s

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start


def _covered(children: Sequence[Child]) -> float:
    """Seconds in which at least one of the children was in training."""
    total, reached = 0.0, 0.0
    for child in sorted(children, key=lambda child: child.started_s):
        total += max(0.0, child.ended_s - max(reached, child.started_s))
        reached = max(reached, child.ended_s)
    return total
