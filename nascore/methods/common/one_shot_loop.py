"""The loop of one-shot methods: what surrounds the steps that train shared weights.

A one-shot method trains one network that contains all architectures. The steps are the method's
own; batches, the spent fraction of the budget, checkpoints, the test for divergence, progress,
metrics and log lines are the same for all and are here.

Random numbers depend on the number of a step, and a checkpoint contains everything that later steps
depend on: a search that was killed continues bit for bit, if its budget counts steps.

B images, C channels.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascore.config import BudgetConfig, TrainingConfig
from nascore.context import SearchContext, device_of
from nascore.data.batches import Split
from nascore.errors import WeightsDivergedError
from nascore.training import distributed
from nascore.training.resumable import TrainingCheckpoint

CHECKPOINT_EVERY_S = 30.0
"""Seconds between two checkpoints of a training of shared weights."""
CHECK_EVERY = 16
"""Steps between two tests of the loss, each of which makes the host wait for a GPU."""

_SECONDS_PER_HOUR = 3600.0
_VERSION = 2  # of the content of checkpoints; others are refused
_log = logging.getLogger(__name__)

Batches = Iterator[tuple[Tensor, Tensor]]
"""Images x (B, C, H, W) and labels y (B,)."""
Snapshot = Callable[[], tuple[dict[str, Tensor], dict[str, Any]]]
"""Returns the tensors, and the values that JSON can hold, on which later steps depend."""


class OneShotLoop:
    """The loop of one arm of a search.

    Args:
        arm: `method` or `control`; names random streams, metrics and the checkpoint.
        kind: of the checkpoint (`nascore.checkpoint.save`).
        training: settings of the training of the shared weights.
        identity: what a checkpoint must have been made with to be continued; see `identity_of`.
        snapshot: returns what a checkpoint has to contain.
        prior_cost_s: seconds that the arm has cost before, such as its pre-training.
    """

    def __init__(
        self,
        context: SearchContext,
        arm: str,
        *,
        kind: str,
        training: TrainingConfig,
        identity: Mapping[str, Any],
        snapshot: Snapshot,
        prior_cost_s: float = 0.0,
    ) -> None:
        self._context, self._arm, self._training = context, arm, training
        self._snapshot = snapshot
        self._checkpoint = TrainingCheckpoint(
            checkpoint_path(context.state, arm),
            kind,
            {**identity, "arm": arm},
            every_s=CHECKPOINT_EVERY_S,
            prior_cost_s=prior_cost_s,
        )
        self._steps_per_epoch = context.splits.train.steps_per_epoch(training)
        self.device = device_of(context.training)

    @property
    def seconds(self) -> float:
        """Wall seconds that the arm has cost so far, those before a crash included."""
        return self._checkpoint.seconds

    # Batches and random numbers.

    def batches(self, stream: str, split: Split, *, start: int) -> Batches:
        """Return the batches of a split from number `start` on, endlessly."""
        return endless_batches(
            split, self._training, lambda epoch: self.generator(stream, epoch), start=start
        )

    def generator(self, stream: str, number: int) -> torch.Generator:
        """Return the random numbers of one step or epoch."""
        return self._context.seeds.torch(self._arm, stream, number)

    # The budget.

    def until_spent(self, spent: Callable[[], float]) -> Iterator[float]:
        """Yield the spent fraction before each step, until it is 1 or the search has to stop."""
        while (fraction := spent()) < 1 and not self.should_stop():
            yield fraction

    def spent(self, step: int, *, reserved: float = 0.0) -> float:
        """Return the fraction of the budget that is spent; the same in all processes.

        Args:
            step: weight updates so far.
            reserved: fraction of a budget of time that is not for shared weights.
        """
        budget = self._context.search.budget
        if budget.unit == "steps":
            return step / budget.amount
        available_s = available_seconds(budget) * (1 - reserved)
        return distributed.agree(self.seconds / available_s, device=self.device)

    def should_stop(self) -> bool:
        """Return whether any process is to stop."""
        return distributed.any_of(self._context.callbacks.should_stop(), device=self.device)

    # Reports.

    def end_step(
        self,
        step: int,
        fraction: float,
        *,
        loss: Tensor | None = None,
        metrics: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        """Test the loss, report, log and save, each where it is due after a step.

        Args:
            step: number of steps of this kind so far.
            fraction: of the budget that was spent before the step.
            loss: scalar, of the shared weights; None after a step that did not train them.
            metrics: returns what is reported in addition to the loss.

        Raises:
            WeightsDivergedError: the loss is not finite.
        """
        if step % CHECK_EVERY == 0:
            self._report_step(step, fraction, loss, {} if metrics is None else metrics())
        if loss is not None and step % self._steps_per_epoch == 0 and distributed.is_first():
            spent = f"{min(1.0, fraction):.0%} of the budget spent"
            _log.info("%s: step %d, %s, loss %.4g", self._arm, step, spent, float(loss))
        if distributed.any_of(self._checkpoint.is_due(), device=self.device):
            self.save()

    def _report_step(
        self, step: int, fraction: float, loss: Tensor | None, metrics: Mapping[str, float]
    ) -> None:
        if loss is not None:
            value = distributed.agree(float(loss), device=self.device)
            check_finite(value, step, key="search.options.weights.lr", lr=self._training.lr)
            metrics = {**metrics, f"weights/{self._arm}/loss": value}
        self.report(metrics, step)
        if distributed.is_first():
            self._context.callbacks.on_progress(self._arm, min(1.0, fraction))

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Report metrics once, whatever the number of processes."""
        if metrics and distributed.is_first():
            self._context.callbacks.on_metrics(metrics, step)

    # Checkpoints.

    def save(self) -> None:
        """Write a checkpoint."""
        if distributed.is_first():
            tensors, values = self._snapshot()
            self._checkpoint.save(tensors, **values)

    def restore(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the last checkpoint; None where there is none.

        Raises:
            InputError: it is damaged, or of another search.
        """
        return self._checkpoint.load()


def endless_batches(
    split: Split,
    training: TrainingConfig,
    generator_of: Callable[[int], torch.Generator],
    *,
    start: int,
) -> Batches:
    """Yield augmented batches of a split, epoch after epoch.

    Args:
        generator_of: epoch -> its random numbers.
        start: number of the first batch, counted from 0 over all epochs.
    """
    number = start
    while True:
        epoch, position = divmod(number, split.steps_per_epoch(training))
        for batch in split.train_batches(training, generator_of(epoch), start=position):
            yield batch
            number += 1


def available_seconds(budget: BudgetConfig) -> float:
    """Return the wall seconds of a budget of time; n devices spend a GPU-hour in 1/n hours."""
    if budget.unit == "gpu_hours":
        return budget.amount * _SECONDS_PER_HOUR / distributed.size()
    return budget.amount


def check_finite(loss: float, step: int, *, key: str, lr: float) -> None:
    """Raise WeightsDivergedError unless a loss of shared weights is finite.

    Args:
        key, lr: the learning rate, and the setting that it comes from.
    """
    if not math.isfinite(loss):
        raise WeightsDivergedError(
            f"the loss of the shared weights is {loss} at step {step}; lower {key}={lr:g}"
        )


def checkpoint_path(state: Path, arm: str = "method") -> Path:
    """Return the path of the checkpoint of an arm."""
    return state / f"{arm}.ckpt"


def identity_of(
    context: SearchContext, *, exclude: frozenset[str] = frozenset(), **more: Any
) -> dict[str, Any]:
    """Return what a checkpoint must have been made with to be continued by a search.

    Args:
        exclude: options that do not change the search.
        more: further values, which JSON can hold.
    """
    shape = context.shape
    return {
        "version": _VERSION,
        "method": context.method,
        "space": context.space.identifier,
        "space_settings": context.search.space.model_dump(mode="json"),
        "seed": context.seeds.seed,
        "options": context.options.model_dump(mode="json", exclude=set(exclude)),
        "shape": [shape.channels, shape.size, shape.num_classes],
        "data": context.splits.info.data_sha256,
        **context.objective_settings(),
        **more,
    }
