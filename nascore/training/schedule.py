"""Schedule of a training: number of weight updates, and learning rate."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from nascore.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: float, num_steps: int) -> float:
    """Return the rate of a step, from 0: linear warm-up, then half a cosine to `min_lr`."""
    warmup = round(config.warmup_fraction * num_steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return half_cosine((step - warmup) / max(1, num_steps - warmup), config.lr, config.min_lr)


def half_cosine(share: float, first: float, last: float) -> float:
    """Return a value that falls from `first` to `last` while `share` rises from 0 to 1."""
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * min(1.0, share)))


@dataclass(slots=True)
class Schedule:
    """Position of each step in the planned training, whose end may be moved on its way.

    Rates follow the position, so that a training whose end has been moved goes through
    the rest of the schedule faster or slower and still ends at its end.

    Attributes:
        planned: weight updates of the original plan.
        num_steps: weight updates that it will have.
        bend_step: step at which the end was moved last; 0: never.
        bend_position: position of that step.
    """

    planned: int
    num_steps: int
    bend_step: int = 0
    bend_position: float = 0.0

    @classmethod
    def of(cls, num_steps: int) -> "Schedule":
        """Return the schedule of a training with this many weight updates."""
        return cls(num_steps, num_steps)

    def position(self, step: int) -> float:
        """Return the step of the planned training that a step corresponds to."""
        if self.bend_step == 0:
            return step
        share = (step - self.bend_step) / max(1, self.num_steps - self.bend_step)
        return self.bend_position + share * (self.planned - self.bend_position)

    def move_end(self, step: int, num_steps: int) -> None:
        """Let the training end after `num_steps`, from `step` on."""
        self.bend_step, self.bend_position = max(1, step), self.position(step)
        self.num_steps = num_steps

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor, as JSON."""
        return asdict(self)


class TimeLimit:
    """The wall seconds of a training, of which its number of steps is computed.

    Args:
        seconds: of the whole training, with its evaluations and the measurement of a step.
        spent_s: seconds that were spent before a crash.
    """

    _RESERVE = 0.03  # of the time: steps are measured on a machine that may become slower
    _TOLERANCE = 0.05  # a training whose end is expected later is shortened
    _SPARE = 0.1  # a training whose end is expected earlier is lengthened
    _MEASURED_SHARE = 0.02
    _WARM_UP, _MEASURED = 3, 8  # steps

    def __init__(self, seconds: float, *, spent_s: float = 0.0) -> None:
        self._seconds = seconds
        self._start = time.perf_counter() - spent_s
        self._first = (0, time.perf_counter())

    def affordable_steps(
        self, step: Callable[[], None], evaluate: Callable[[], None], steps_per_epoch: int
    ) -> int:
        """Return how many steps fit, with an evaluation after each epoch; at least one.

        Args:
            step: makes one weight update with the next batch; waits for its end.
            evaluate: what is done after an epoch.
            steps_per_epoch: of the training.
        """
        evaluation_s = _seconds_of(evaluate)
        for _ in range(self._WARM_UP):
            step()
        begin, count = time.perf_counter(), 0
        while count < self._MEASURED or (
            time.perf_counter() - begin < self._MEASURED_SHARE * self._seconds
            and count < steps_per_epoch
        ):
            step()
            count += 1
        step_s = (time.perf_counter() - begin) / count
        left_s = (1 - self._RESERVE) * self._seconds - (time.perf_counter() - self._start)
        steps = int(left_s / (step_s + evaluation_s / steps_per_epoch))
        return max(1, min(steps, int((left_s - evaluation_s) / step_s)))

    def begin(self, step: int) -> None:
        """Measure the steps of the training itself from now on."""
        self._first = (step, time.perf_counter())

    def affordable_end(self, step: int, num_steps: int, *, lengthens: bool = False) -> int:
        """Return `num_steps`, or fewer if the training would end too late.

        Args:
            step: steps so far.
            num_steps: steps of the training, as planned now.
            lengthens: return more steps if the training would leave much of its time unused.
        """
        first, begin = self._first
        now = time.perf_counter()
        if step <= first:
            return num_steps
        step_s = (now - begin) / (step - first)
        left_s = self._seconds - (now - self._start)
        needed_s = (num_steps - step) * step_s
        if needed_s > left_s + self._TOLERANCE * self._seconds:
            return max(step + 1, min(num_steps, step + int(left_s / step_s)))
        if lengthens and needed_s < left_s - self._SPARE * self._seconds:
            return max(num_steps, step + int(left_s / step_s))
        return num_steps


def _seconds_of(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
