"""A budget is a promise: what a search may spend, and whether one more child fits.

Spent children, steps and seconds are read from the children themselves, so a search that is
started again knows what it has used. A GPU-hour is an hour of one device; on a CPU the machine is
the device.
"""

import time
from collections.abc import Sequence

from nascore.config import BudgetConfig
from nascore.results import Child


class Budget:
    """Counts one arm against its limit.

    Args:
        config: unit and amount.
        num_devices: GPUs in use; matters for `gpu_hours` only.
        charged_s: seconds that are already spent on what is no child, such as a coder.
    """

    def __init__(
        self, config: BudgetConfig, *, num_devices: int = 1, charged_s: float = 0.0
    ) -> None:
        self.unit = config.unit
        self.amount = config.amount
        self._seconds = {
            "seconds": config.amount,
            "gpu_hours": config.amount * 3600 / num_devices,
        }.get(self.unit)
        self._start = time.monotonic()
        self._before_s = charged_s

    def resume(self, children: Sequence[Child]) -> None:
        """Counts the time that earlier processes spent on `children`."""
        self._before_s += sum(child.scores.duration_s for child in children if child.scores)

    @property
    def seconds_left(self) -> float | None:
        """None when the budget is not one of time."""
        if self._seconds is None:
            return None
        return self._seconds - self._before_s - (time.monotonic() - self._start)

    def spent_fraction(self, children: Sequence[Child]) -> float:
        """Share of the budget that is used, 0 to 1 and a little beyond."""
        if self._seconds is not None:
            return 1 - (self.seconds_left or 0.0) / self._seconds
        return self._count(children) / self.amount

    def allows(self, children: Sequence[Child], *, child_steps: int) -> bool:
        """Whether one more child can finish within what is left.

        Args:
            child_steps: weight updates that the child takes.
        """
        if self._seconds is not None:
            durations = [child.scores.duration_s for child in children if child.scores]
            return (self.seconds_left or 0.0) > min(durations, default=0.0)
        cost = 1 if self.unit == "children" else child_steps
        return self._count(children) + cost <= self.amount

    @property
    def is_overrun(self) -> bool:
        """Whether a child that is under way has to be cut off: time is up by more than 1 %."""
        left = self.seconds_left
        return left is not None and self._seconds is not None and left < -0.01 * self._seconds

    def _count(self, children: Sequence[Child]) -> float:
        if self.unit == "children":
            return len(children)
        return sum(child.scores.num_steps for child in children if child.scores)
