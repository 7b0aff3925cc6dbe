"""How much of a budget is spent, and how many weight updates all of it will buy.

A budget of steps says both itself. Of a budget of time the spent share is that of the clock; the
number of updates, which decides how long to explore, is what was made so far and what the present
pace makes of the time that is left. Steps of the warm-up train weights alone and are faster than
those after it, so each kind has a pace of its own.
"""

import time
from collections.abc import Callable

import torch

from nascore.config import BudgetConfig
from nascore.errors import InputError
from nascore.methods.common.one_shot_loop import available_seconds
from nascore.training import distributed

MEASURED_STEPS = 20
"""A budget of time is turned into steps again after so many."""
_WITH_LOGITS = 2.0  # a step after the warm-up, in those of the warm-up, until it is measured
_ROUNDING = 1e-9
_INERTIA = 0.8  # of the running mean of a pace


class BudgetTracker:
    """Of one arm.

    Args:
        num_steps: weight updates of a budget of steps; of one of time, None.
        seconds: wall seconds that the arm has cost so far, those before a crash included.
        warmup: share of the budget in which steps train weights alone.
        device: of the trainings; all processes agree on the time through it.

    Attributes:
        paces_s: seconds of a step in the warm-up, and after it; 0 until it is measured.
        total_steps: T, weight updates in all, as far as is known.
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
        """u, the share that is spent after `step` updates; the same in all processes."""
        if self._num_steps is not None:
            return step / self._num_steps
        return distributed.agree(self._seconds() / self.available_s, device=self._device)

    def is_over(self, step: int, u: float, *, until: float = 1.0) -> bool:
        """Whether no further step fits, by the present pace: none ends after the budget.

        Of a budget of time the first step is made in any case: `end` tells when it was too long.
        """
        if not self.is_timed:
            return u >= until
        if step == 0:
            return False
        next_s = self.paces_s[u >= self._warmup] or self.paces_s[0]
        return u >= until or u + next_s / self.available_s > 1 + _ROUNDING

    def begin(self) -> None:
        """A step begins."""
        self._began_s = time.monotonic()

    def end(self, step: int, u: float) -> bool:
        """It has ended, as number `step` counted from 1; it had begun at the share `u`.

        Returns:
            Whether `total_steps` is estimated anew.

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
        """The search is over: so many steps it was."""
        if self.is_timed:
            self.total_steps = step

    def _steps_in(self, left_s: float, u: float) -> float:
        """Updates that the time before and after the end of the warm-up still makes."""
        slow_s = self.paces_s[1] or _WITH_LOGITS * self.paces_s[0]
        warmup_s = max(0.0, self._warmup - u) * self.available_s if self.paces_s[0] else 0.0
        warmup_s = min(warmup_s, left_s)
        before = warmup_s / self.paces_s[0] if warmup_s else 0.0
        return before + (left_s - warmup_s) / slow_s

    def _in_unit(self, seconds: float) -> float:
        return seconds / (self.available_s / self._budget.amount)

    # What survives.

    def state(self) -> dict[str, float | list[float]]:
        return {"total_steps": self.total_steps, "paces_s": list(self.paces_s)}

    def load_state(self, state: dict[str, float | list[float]]) -> None:
        paces_s, total = state["paces_s"], state["total_steps"]
        assert isinstance(paces_s, list)
        assert not isinstance(total, list)
        self.paces_s, self.total_steps = [float(pace) for pace in paces_s], int(total)
