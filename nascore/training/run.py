"""One training as it proceeds: its epochs, its state, its checkpoints.

The state contains all that later updates depend on, so that a training continues bit for bit from
a checkpoint. The same state, kept in memory, is that to which a training returns when its loss is
not finite in less than single precision.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nascore.config import OBJECTIVES, Objective, TrainingConfig
from nascore.data.batches import Split
from nascore.data.waiting import Waiting
from nascore.errors import LossNotFiniteError
from nascore.training import distributed
from nascore.training.fine_tuning import FineTuning
from nascore.training.losses import Loss
from nascore.training.measurements import Measurements, Training
from nascore.training.prediction import accuracy_and_score
from nascore.training.resumable import TrainingCheckpoint
from nascore.training.schedule import Schedule, TimeLimit, learning_rate
from nascore.training.updates import Updates

_log = logging.getLogger(__name__)
_CHECK_EVERY = 16  # steps between tests of the loss: each one makes the host wait for a GPU

OnEpoch = Callable[[int, float | None], None]
"""Called with the 0-based epoch and the validation score in the objective, a fraction."""
State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors, and values that JSON can hold."""


class TrainingStopped(Exception):
    """The caller ended the training: the budget is spent, or the process has to stop."""


class _NotFinite(Exception):
    """The loss or a weight is not finite; the message says where."""


class Run:
    """The training of a network; see `nascore.training.loop.train` for the arguments.

    Attributes:
        step: weight updates so far.
    """

    def __init__(
        self,
        network: nn.Module,
        split: Split,
        config: TrainingConfig,
        *,
        loss: Loss,
        generator: torch.Generator,
        valid: Split | None,
        objective: Objective,
        on_message: Callable[[str], None] | None,
        checkpoint: TrainingCheckpoint | None,
        fine_tuning: FineTuning | None = None,
    ) -> None:
        self._start, self._waiting = time.perf_counter(), Waiting()
        self._network, self._split, self._config = network, split, config
        self._generator, self._valid, self._objective = generator, valid, objective
        self._on_message, self._checkpoint = on_message, checkpoint
        self._updates = Updates(network, config, loss, generator, fine_tuning)
        self._steps_per_epoch = split.steps_per_epoch(config)
        self._schedule = Schedule.of(0)
        self._limit: TimeLimit | None = None
        self.step = 0
        self._epoch_generator = generator.get_state()
        self._measured = Measurements(objective, split.device)
        self._messages: list[str] = []

    # Beginning.

    def begin(self, num_steps: int, seconds: float | None) -> None:
        """Fix the number of steps, and continue from the checkpoint, if there is one.

        Args:
            num_steps: of a training without a limit of time.
            seconds: limit of time.
        """
        found = None if self._checkpoint is None else self._checkpoint.load()
        if self._config.compile:
            x_BCHW, _ = next(self._rehearsal())
            self._updates.compile(x_BCHW, self._tell)
        self._updates.divide()
        if seconds is not None:
            spent_s = time.perf_counter() - self._start
            if found is not None and self._checkpoint is not None:
                spent_s = self._checkpoint.seconds
            self._limit = TimeLimit(seconds, spent_s=spent_s)
            if found is None:
                num_steps = self._affordable_steps(self._limit)
        if found is not None:
            num_steps = found[1]["schedule"]["planned"]
        self._schedule = Schedule.of(num_steps)
        self._updates.begin_average(num_steps)
        if found is not None:
            self._load(found)
            self._load_global_generators(found[0])
        if self._limit is not None:
            self._limit.begin(self.step)

    def _affordable_steps(self, limit: TimeLimit) -> int:
        self._updates.begin_average(1)
        before, batches = self._updates.tensors(), self._rehearsal()

        def step() -> None:
            self._network.train()
            loss, _ = self._updates.forward(*next(batches), step=0)
            self._updates.descend(loss, lr=self._config.lr, epoch=0)
            loss.item()

        def evaluate() -> None:
            if self._valid is not None:
                accuracy_and_score(self._updates.evaluated, self._valid, self._objective)

        steps = limit.affordable_steps(step, evaluate, self._steps_per_epoch)
        self._updates.load(before)
        return round(distributed.agree(steps, device=distributed.CPU))

    def _rehearsal(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches endlessly, without a change of the generator."""
        generator = self._generator.clone_state()
        while True:
            yield from self._split.train_batches(self._config, generator)

    # Epochs.

    def all_epochs(self, on_epoch: OnEpoch | None, should_stop: Callable[[], bool] | None) -> None:
        """Train to the end of the schedule."""
        while self._measured.epoch < self._num_epochs:
            before = self._state() if self._updates.autocast.is_on else None
            try:
                self._train_epoch(should_stop)
            except _NotFinite as error:
                if before is None:
                    raise LossNotFiniteError(str(error), num_steps=self.step) from error
                self._load(before)
                self._updates.autocast.turn_off()
                self._tell(f"{error} in less than single precision; it goes on in fp32")
                continue
            self._end_epoch(on_epoch)

    def _train_epoch(self, should_stop: Callable[[], bool] | None) -> None:
        """Make the updates of an epoch that are not made yet."""
        self._updates.begin_epoch(self._measured.epoch)
        self._generator.set_state(self._epoch_generator)
        position = self.step - self._measured.epoch * self._steps_per_epoch
        if position == 0:
            self._keep_to_time(lengthens=True)
        batches = self._split.train_batches(self._config, self._generator, start=position)
        batches = itertools.islice(batches, self._schedule.num_steps - self.step)
        loss: Tensor | None = None
        for x_BCHW, y_B in self._waiting.over(batches):
            if should_stop is not None and should_stop():
                self._save()
                raise TrainingStopped
            loss = self._update(x_BCHW, y_B)
            if self._checkpoint is not None and self._checkpoint.is_due():
                self._save()
            if self.step >= self._schedule.num_steps:
                break
        if loss is not None:
            self._require_finite(loss, f"after epoch {self._measured.epoch}")
            if self._updates.autocast.is_on and not self._updates.is_finite():
                raise _NotFinite(f"a weight is not finite after epoch {self._measured.epoch}")

    def _update(self, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
        """Make one update; return the loss of the batch before it."""
        at, planned = self._schedule.position(self.step), self._schedule.planned
        loss, logits_BK = self._updates.forward(x_BCHW, y_B, step=self.step)
        if self.step % _CHECK_EVERY == 0:
            self._require_finite(loss, f"at step {self.step}")
            self._keep_to_time()
        rate = learning_rate(self._config, at, planned)
        self._updates.descend(loss, lr=rate, epoch=self._measured.epoch)
        self._measured.answers.add(logits_BK.detach(), y_B)
        self.step += 1
        return loss

    def _require_finite(self, loss: Tensor, where: str) -> None:
        if not math.isfinite(loss.item()):
            raise _NotFinite(f"loss is {loss.item()} {where}")

    def _keep_to_time(self, *, lengthens: bool = False) -> None:
        if self._limit is None:
            return
        before = self._schedule.num_steps
        end = self._limit.affordable_end(self.step, before, lengthens=lengthens)
        end = round(distributed.agree(end, device=distributed.CPU))
        if end != before:
            slower = end < before
            self._tell(
                f"updates take {'longer' if slower else 'less time'} than expected: the training "
                f"ends after {end} steps instead of {before}, with the rest of its schedule "
                f"{'shortened' if slower else 'lengthened'}"
            )
            self._schedule.move_end(self.step, end)

    def _end_epoch(self, on_epoch: OnEpoch | None) -> None:
        epoch, measured = self._measured.epoch, self._measured
        score = measured.end_epoch(self._updates.evaluated, self._valid)
        valid = "" if score is None else f", valid {OBJECTIVES[self._objective]} {score:.4f}"
        accuracy = measured.train_accuracy
        of = self._num_epochs
        _log.info("epoch %d of %d: train accuracy %.4f%s", epoch + 1, of, accuracy, valid)
        self._epoch_generator = self._generator.get_state()
        if on_epoch is not None:
            on_epoch(epoch, score)

    @property
    def _num_epochs(self) -> int:
        return math.ceil(self._schedule.num_steps / self._steps_per_epoch)

    def finish(self) -> Training:
        """Give the network its final weights, and return the measurements."""
        self._updates.finish()
        duration_s = time.perf_counter() - self._start
        return self._measured.summary(
            num_steps=self.step,
            duration_s=duration_s if self._checkpoint is None else self._checkpoint.seconds,
            data_wait_s=self._waiting.seconds,
            messages=tuple(self._messages),
        )

    def _tell(self, message: str) -> None:
        _log.warning("%s", message)
        self._messages.append(message)
        if self._on_message is not None:
            self._on_message(message)

    # State.

    def _save(self) -> None:
        if self._checkpoint is not None and distributed.is_first():
            tensors, values = self._state()
            self._checkpoint.save(tensors | self._global_generators(), **values)

    def _global_generators(self) -> dict[str, Tensor]:
        """Return the states of torch's generators, from which networks with dropout draw."""
        states = {"global_generator": torch.get_rng_state()}
        if self._split.device.type == "cuda":
            states["cuda_generator"] = torch.cuda.get_rng_state(self._split.device)
        return states

    def _load_global_generators(self, tensors: Mapping[str, Tensor]) -> None:
        torch.set_rng_state(tensors["global_generator"])
        if self._split.device.type == "cuda" and "cuda_generator" in tensors:
            torch.cuda.set_rng_state(tensors["cuda_generator"], self._split.device)

    def _state(self) -> State:
        tensors = {"generator": self._epoch_generator, **self._updates.tensors()}
        values = {
            "step": self.step,
            "schedule": self._schedule.to_dict(),
            "messages": list(self._messages),
            "measured": self._measured.to_dict(),
            "updates": self._updates.to_dict(),
        }
        return tensors | self._measured.tensors(), values

    def _load(self, state: State) -> None:
        tensors, values = state
        self.step, self._messages = values["step"], list(values["messages"])
        self._schedule = Schedule(**values["schedule"])
        self._epoch_generator = tensors["generator"]
        self._updates.load(tensors, values["updates"])
        self._measured.load(tensors, values["measured"])
