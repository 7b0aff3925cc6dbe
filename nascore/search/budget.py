"""Budget of a search: what is spent, and whether one more child fits.

What is spent follows from the children, so a search that resumes knows what it has used, and
workers that share a study share its budget. `seconds` is wall-clock time, however many workers
there are. A GPU-hour is an hour of one device; on a CPU the machine is the device.
"""

import time
from collections.abc import Sequence

from nascore.config import BudgetConfig
from nascore.results import Child
from nascore.search.attempts import OpenChild

_TOLERANCE = 0.01  # fraction of the budget by which a child may exceed it before it is cut off


class Budget:
    """Budget of one arm.

    Args:
        config: unit and amount.
        num_devices: GPUs that each worker uses; matters for `gpu_hours` only.
        prior_cost_s: seconds spent before the first child, such as pretraining.

    Attributes:
        before_s: seconds that the search had cost when this process started.
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
        """Count the time in which `children` were trained before this process started."""
        self.before_s = _covered_s(children)

    def fits(
        self, children: Sequence[Child], ahead: Sequence[OpenChild], *, child_steps: int
    ) -> bool:
        """Return whether one more child can finish within the rest of the budget.

        Args:
            children: those that have ended.
            ahead: those in training, which come first.
            child_steps: weight updates of one child.
        """
        if self.unit == "children":
            trained = sum(not child.is_rejected for child in children)
            return trained + len(ahead) + 1 <= self.amount
        if self.unit == "steps":
            spent = sum(child.num_steps for child in children)
            return spent + (len(ahead) + 1) * child_steps <= self.amount
        shortest = min((_seconds(child) for child in children if child.scores), default=0.0)
        left = self.seconds_left(children, ahead)
        return left is not None and left > shortest

    def seconds_left(
        self, children: Sequence[Child], ahead: Sequence[OpenChild] = ()
    ) -> float | None:
        """Return how long one more child may take; None when the budget is not one of time.

        With GPU-hours, the children in training share the rest of the budget.
        """
        if self.unit == "seconds":
            return self.amount - self._charged_s - self.before_s - self._elapsed_s
        if self.unit == "gpu_hours":
            now = time.time()
            spent_s = self._charged_s + sum(_seconds(child) for child in children)
            spent_s += sum(max(0.0, now - child.started_s) for child in ahead)
            return (self.amount * 3600 / self._num_devices - spent_s) / (len(ahead) + 1)
        return None

    def cut_off_s(self, children: Sequence[Child], ahead: Sequence[OpenChild]) -> float | None:
        """Return the seconds after which a child that starts now is cut off.

        It may exceed the budget by one percent.
        """
        left = self.seconds_left(children, ahead)
        if left is None:
            return None
        total_s = self.amount if self.unit == "seconds" else self.amount * 3600 / self._num_devices
        return left + _TOLERANCE * total_s

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start


def _seconds(child: Child) -> float:
    return child.duration_s or 0.0


def _covered_s(children: Sequence[Child]) -> float:
    """Return the seconds in which at least one of the children was in training."""
    periods = [
        (child.started_s, child.ended_s)
        for child in children
        if child.started_s is not None and child.ended_s is not None
    ]
    total, reached = 0.0, 0.0
    for started_s, ended_s in sorted(periods):
        total += max(0.0, ended_s - max(reached, started_s))
        reached = max(reached, ended_s)
    return total
