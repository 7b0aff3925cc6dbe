"""One training as it proceeds: its epochs, its state, its checkpoints.

The state contains all that later updates depend on, so that a training continues bit for bit from
a checkpoint. The same state, kept in memory, is that to which a training returns when its loss is
not finite in less than single precision.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascore.config import OBJECTIVES, Objective, TrainingConfig
from nascore.data.batches import Split
from nascore.data.waiting import Waiting
from nascore.errors import ChildFailedError
from nascore.evaluation.scoring import Answers, Epochs
from nascore.training import checkpoint as checkpoints
from nascore.training import distributed
from nascore.training.fine_tuning import FineTuning
from nascore.training.losses import Loss
from nascore.training.prediction import accuracy_and_score
from nascore.training.resumable import TrainingCheckpoint
from nascore.training.schedule import Schedule, TimeLimit, image_size, learning_rate
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


@dataclass(frozen=True, slots=True)
class Training:
    """Measurements of one training.

    Attributes:
        train_accuracy: one entry an epoch, fraction of the augmented images seen in that epoch,
            each evaluated just before the update that learns from it.
        valid_accuracy: one entry an epoch, fraction; empty when no split was given.
        train_score, valid_score: the same in the metric of the objective.
        num_steps: weight updates.
        duration_s: wall seconds, those before a crash included.
        data_wait_s: the part of them that was spent waiting for batches by this process.
        kept_epoch: 0-based epoch whose weights the network has at the end.
        messages: sentences for the user.
    """

    train_accuracy: tuple[float, ...]
    valid_accuracy: tuple[float, ...]
    train_score: tuple[float, ...]
    valid_score: tuple[float, ...]
    num_steps: int
    duration_s: float
    data_wait_s: float = 0.0
    kept_epoch: int = -1
    messages: tuple[str, ...] = ()


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
        self.step, self._epoch = 0, 0
        self._epoch_generator = generator.get_state()
        self._answers = Answers(objective, split.device)
        self._trained, self._validated = Epochs(objective), Epochs(objective)
        self._best: dict[str, Tensor] = {}
        self._best_epoch = -1
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
            self._limit.begin(self.step)
        self._schedule = Schedule.of(num_steps)
        self._updates.begin_average(num_steps)
        if found is not None:
            self._load(found)
            if self._limit is not None:
                self._limit.begin(self.step)

    def _affordable_steps(self, limit: TimeLimit) -> int:
        self._updates.begin_average(1)
        before, batches = self._updates.tensors(), self._rehearsal()

        def step() -> None:
            self._network.train()
            loss, _ = self._updates.forward(*next(batches), step=0, size=self._split.size)
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
        """Train to the end of the schedule, or until the score has not risen for too long."""
        while self.step < self._schedule.num_steps and not self._is_stalled():
            before = self._state() if self._updates.autocast.is_on else None
            try:
                self._train_epoch(should_stop)
            except _NotFinite as error:
                if before is None:
                    raise ChildFailedError(str(error), num_steps=self.step) from error
                self._load(before)
                self._updates.autocast.turn_off()
                self._tell(f"{error} in less than single precision; it goes on in fp32")
                continue
            self._end_epoch(on_epoch)

    def _train_epoch(self, should_stop: Callable[[], bool] | None) -> None:
        """Make the updates of an epoch that are not made yet."""
        self._updates.begin_epoch(self._epoch)
        self._generator.set_state(self._epoch_generator)
        position = self.step - self._epoch * self._steps_per_epoch
        batches = self._split.train_batches(self._config, self._generator, start=position)
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
            self._require_finite(loss, f"after epoch {self._epoch}")
            if self._updates.autocast.is_on and not self._updates.is_finite():
                raise _NotFinite(f"a weight is not finite after epoch {self._epoch}")

    def _update(self, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
        """Make one update; return the loss of the batch before it."""
        at, planned = self._schedule.position(self.step), self._schedule.planned
        size = image_size(self._config, self._split.size, at / planned)
        loss, logits_BK = self._updates.forward(x_BCHW, y_B, step=self.step, size=size)
        if self.step % _CHECK_EVERY == 0:
            self._require_finite(loss, f"at step {self.step}")
            self._keep_to_time()
        rate = learning_rate(self._config, at, planned)
        self._updates.descend(loss, lr=rate, epoch=self._epoch)
        self._answers.add(logits_BK.detach(), y_B)
        self.step += 1
        return loss

    def _require_finite(self, loss: Tensor, where: str) -> None:
        if not math.isfinite(loss.item()):
            raise _NotFinite(f"loss is {loss.item()} {where}")

    def _keep_to_time(self) -> None:
        if self._limit is None:
            return
        end = self._limit.affordable_end(self.step, self._schedule.num_steps)
        end = round(distributed.agree(end, device=distributed.CPU))
        if end < self._schedule.num_steps:
            self._tell(
                f"the machine has become slower: the training ends after {end} steps instead of "
                f"{self._schedule.num_steps}, with the rest of its schedule shortened"
            )
            self._schedule.shorten(self.step, end)

    def _end_epoch(self, on_epoch: OnEpoch | None) -> None:
        self._trained.add(self._answers.accuracy(), self._answers.score())
        score = None
        if self._valid is not None:
            evaluated = self._updates.evaluated
            self._validated.add(*accuracy_and_score(evaluated, self._valid, self._objective))
            score = self._validated.scores[-1]
            self._keep_best(score)
        num_epochs = math.ceil(self._schedule.num_steps / self._steps_per_epoch)
        valid = "" if score is None else f", valid {OBJECTIVES[self._objective]} {score:.4f}"
        accuracy = self._trained.accuracies[-1]
        _log.info(
            "epoch %d of %d: train accuracy %.4f%s", self._epoch + 1, num_epochs, accuracy, valid
        )
        self._epoch += 1
        self._epoch_generator = self._generator.get_state()
        self._answers = Answers(self._objective, self._split.device)
        if on_epoch is not None:
            on_epoch(self._epoch - 1, score)

    def _keep_best(self, score: float) -> None:
        if self._config.patience == 0 or score <= max(self._validated.scores[:-1], default=-1.0):
            return
        self._best_epoch = self._epoch
        state = self._updates.evaluated.state_dict()
        self._best = {name: tensor.clone() for name, tensor in state.items()}

    def _is_stalled(self) -> bool:
        patience = self._config.patience
        is_over = patience > 0 and self._epoch - 1 - self._best_epoch >= patience
        return is_over and bool(self._best)

    def finish(self) -> Training:
        """Give the network its final weights, and return the measurements."""
        if self._is_stalled():
            self._tell(f"no better score for {self._config.patience} epochs: the training ends")
        self._updates.finish()
        if self._best:
            self._network.load_state_dict(self._best)
        duration_s = time.perf_counter() - self._start
        return Training(
            train_accuracy=tuple(self._trained.accuracies),
            valid_accuracy=tuple(self._validated.accuracies),
            train_score=tuple(self._trained.scores),
            valid_score=tuple(self._validated.scores),
            num_steps=self.step,
            duration_s=duration_s if self._checkpoint is None else self._checkpoint.seconds,
            data_wait_s=self._waiting.seconds,
            kept_epoch=self._best_epoch if self._best else self._epoch - 1,
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
            self._checkpoint.save(tensors, **values)

    def _state(self) -> State:
        tensors = {"generator": self._epoch_generator, **self._updates.tensors()}
        tensors |= {f"answers.{name}": value for name, value in self._answers.tensors().items()}
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        values = {
            "step": self.step,
            "epoch": self._epoch,
            "best_epoch": self._best_epoch,
            "trained": [list(self._trained.accuracies), list(self._trained.scores)],
            "validated": [list(self._validated.accuracies), list(self._validated.scores)],
            "schedule": self._schedule.to_dict(),
            "messages": list(self._messages),
            "updates": self._updates.to_dict(),
        }
        return tensors, values

    def _load(self, state: State) -> None:
        tensors, values = state
        self._updates.load(tensors, values["updates"])
        self.step, self._epoch = values["step"], values["epoch"]
        self._best_epoch, self._messages = values["best_epoch"], list(values["messages"])
        self._schedule = Schedule(**values["schedule"])
        self._epoch_generator = tensors["generator"]
        self._answers = Answers(self._objective, self._split.device)
        self._answers.load(checkpoints.below("answers.", tensors))
        self._best = checkpoints.below("best.", tensors)
        for epochs, (accuracies, scores) in (
            (self._trained, values["trained"]),
            (self._validated, values["validated"]),
        ):
            epochs.load(accuracies, scores)
