"""The spent fraction of a budget, and the number of weight updates that it allows.

A budget of steps is that number. For a budget of time, the spent fraction is that of the elapsed
time; the number of updates, which determines how long to explore, is the number done plus the
remaining time divided by the pace. Steps of the warm-up train weights alone and are faster than
those after it, so each kind has its own pace.
"""

import time
from collections.abc import Callable

import torch

from nascore.config import BudgetConfig
from nascore.errors import InputError
from nascore.methods.common.one_shot_loop import available_seconds
from nascore.training import distributed

MEASURED_STEPS = 20
"""Steps between two estimates of the number of steps in a budget of time."""
_WITH_LOGITS = 2.0  # duration of a step after the warm-up, in those of the warm-up, until measured
_ROUNDING = 1e-9
_INERTIA = 0.8  # decay of the moving average of a pace


class BudgetTracker:
    """The budget of one arm.

    Args:
        num_steps: weight updates of a budget of steps; None for one of time.
        seconds: returns the wall seconds of the arm so far, those before a crash included.
        warmup: fraction of the budget in which steps train weights alone.
        device: device through which all processes agree on the time.

    Attributes:
        paces_s: seconds of a step in the warm-up, and after it; 0 until it is measured.
        total_steps: T, the estimated number of weight updates in all.
    """

    def __init__(
        self,
        budget: BudgetConfig,
        *,
        num_steps: int | None,
        seconds: Callable[[], float],
        warmup: float,
        device: torch.device,
    ) -> None:
        self._budget, self._seconds, self._warmup, self._device = budget, seconds, warmup, device
        self._num_steps = num_steps
        self.paces_s = [0.0, 0.0]
        self.total_steps = 1 if num_steps is None else num_steps
        self._began_s = 0.0

    @property
    def is_timed(self) -> bool:
        return self._num_steps is None

    @property
    def available_s(self) -> float:
        """Wall seconds of a budget of time."""
        return available_seconds(self._budget)

    def share(self, step: int) -> float:
        """Return u, the fraction that is spent after `step` updates; the same in all processes."""
        if self._num_steps is not None:
            return step / self._num_steps
        return distributed.agree(self._seconds() / self.available_s, device=self._device)

    def is_over(self, step: int, u: float, *, until: float = 1.0) -> bool:
        """Return whether the next step would, at the present pace, end after the budget.

        The first step is made in any case; `end` raises if it was too long.
        """
        if not self.is_timed:
            return u >= until
        if step == 0:
            return False
        next_s = self.paces_s[u >= self._warmup] or self.paces_s[0]
        return u >= until or u + next_s / self.available_s > 1 + _ROUNDING

    def begin(self) -> None:
        """Start the clock of a step."""
        self._began_s = time.monotonic()

    def end(self, step: int, u: float) -> bool:
        """Stop the clock of a step.

        Args:
            step: number of the step, from 1.
            u: spent fraction when it began.

        Returns:
            Whether `total_steps` has a new estimate.

        Raises:
            InputError: the first step took longer than the whole budget.
        """
        taken_s = distributed.agree(time.monotonic() - self._began_s, device=self._device)
        kind = int(u >= self._warmup)
        known_s = self.paces_s[kind]
        self.paces_s[kind] = _INERTIA * known_s + (1 - _INERTIA) * taken_s if known_s else taken_s
        if not self.is_timed:
            return False
        if step == 1 and (share := self.share(step)) > 1:
            spent_s = share * self.available_s
            enough = self._in_unit(spent_s + MEASURED_STEPS * taken_s)
            raise InputError.of(
                f"search.budget.{self._budget.unit}",
                f"{self._budget.amount:g}",
                f"is smaller than one step, which ended after {spent_s:.2g} s here; give "
                f"{enough:.2g} for {MEASURED_STEPS} steps",
            )
        if step != 1 and step % MEASURED_STEPS:
            return False
        left_s = self.available_s * (1 - self.share(step))
        self.total_steps = step + round(self._steps_in(left_s, u))
        return True

    def finish(self, step: int) -> None:
        """Set the number of steps at the end of the search."""
        if self.is_timed:
            self.total_steps = step

    def _steps_in(self, left_s: float, u: float) -> float:
        """Return the updates that fit into the remaining seconds, warm-up and after."""
        slow_s = self.paces_s[1] or _WITH_LOGITS * self.paces_s[0]
        warmup_s = max(0.0, self._warmup - u) * self.available_s if self.paces_s[0] else 0.0
        warmup_s = min(warmup_s, left_s)
        before = warmup_s / self.paces_s[0] if warmup_s else 0.0
        return before + (left_s - warmup_s) / slow_s

    def _in_unit(self, seconds: float) -> float:
        return seconds / (self.available_s / self._budget.amount)

    # The checkpoint.

    def state(self) -> dict[str, float | list[float]]:
        return {"total_steps": self.total_steps, "paces_s": list(self.paces_s)}

    def load_state(self, state: dict[str, float | list[float]]) -> None:
        paces_s, total = state["paces_s"], state["total_steps"]
        assert isinstance(paces_s, list)
        assert not isinstance(total, list)
        self.paces_s, self.total_steps = [float(pace) for pace in paces_s], int(total)
