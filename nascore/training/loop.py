"""Training of one network on one split, and its evaluation on another.

SGD with Nesterov momentum, weight decay on kernels only, and one cosine cycle of the learning rate
(Loshchilov & Hutter 2017), as NASES trains its children and its final network (arXiv 1909.03615,
released code). Batches are whole tensors on the device, so the loop only computes forward, backward
and update.
"""

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.config import OBJECTIVES, Objective, TrainingConfig
from nascore.data.batches import BatchSize, Split
from nascore.data.waiting import Waiting
from nascore.errors import ChildFailedError
from nascore.evaluation.scoring import Answers, Epochs, score_of
from nascore.threads import thread_limit

_log = logging.getLogger(__name__)

_SMALL_BATCH = 2**17  # pixels; below it a second CPU thread costs more than it saves
_CHECK_EVERY = 16  # steps between tests of the loss: each one makes the host wait for a GPU

OnEpoch = Callable[[int, float | None], None]
"""Called with the 0-based epoch and the validation score in the objective, a fraction."""


class TrainingStopped(Exception):
    """The caller ended the training: the budget is spent, or the process has to stop."""


@dataclass(frozen=True, slots=True)
class Training:
    """Measurements of one training.

    Attributes:
        train_accuracy: one entry an epoch, fraction of the augmented images seen in that epoch,
            each evaluated just before the update that learns from it.
        valid_accuracy: one entry an epoch, fraction; empty when no split was given.
        train_score, valid_score: the same in the metric of the objective.
        num_steps: weight updates.
        duration_s: wall seconds.
        data_wait_s: the part of them that was spent waiting for batches.
    """

    train_accuracy: tuple[float, ...]
    valid_accuracy: tuple[float, ...]
    train_score: tuple[float, ...]
    valid_score: tuple[float, ...]
    num_steps: int
    duration_s: float
    data_wait_s: float = 0.0


def train(
    network: nn.Module,
    split: Split,
    config: TrainingConfig,
    *,
    generator: torch.Generator,
    valid: Split | None = None,
    on_epoch: OnEpoch | None = None,
    should_stop: Callable[[], bool] | None = None,
    objective: Objective = "accuracy",
) -> Training:
    """Train `network` in place on `split` for `config.epochs` epochs.

    Args:
        network: on the device of the split; (B, C, H, W) -> logits (B, num_classes).
        generator: order of the images and augmentation; nothing else in here is random.
        valid: evaluated after every epoch.
        on_epoch: called with the 0-based epoch and the validation score in the objective.
        should_stop: polled before every weight update.
        objective: of the scores; it does not change the training.

    Raises:
        ChildFailedError: the loss is not finite, or the network does not fit in memory.
        TrainingStopped: `should_stop` returned true.
    """
    with fitting_threads(split, config):
        return _train(
            network,
            split,
            config,
            generator=generator,
            valid=valid,
            on_epoch=on_epoch,
            should_stop=should_stop,
            objective=objective,
        )


def _train(
    network: nn.Module,
    split: Split,
    config: TrainingConfig,
    *,
    generator: torch.Generator,
    valid: Split | None,
    on_epoch: OnEpoch | None,
    should_stop: Callable[[], bool] | None,
    objective: Objective,
) -> Training:
    start, waiting = time.perf_counter(), Waiting()
    optimizer = _optimizer(network, config)
    num_steps = planned_steps(split, config)
    num_epochs = math.ceil(num_steps / split.steps_per_epoch(config))
    step = 0
    trained, validated = Epochs(objective), Epochs(objective)
    try:
        for epoch in range(num_epochs):
            network.train()
            answers = Answers(objective, split.device)
            batches = split.train_batches(config, generator)
            for x_BCHW, y_B in waiting.over(itertools.islice(batches, num_steps - step)):
                if should_stop is not None and should_stop():
                    raise TrainingStopped
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, step, num_steps)
                logits_BK = network(x_BCHW)
                loss = F.cross_entropy(logits_BK, y_B, weight=split.class_weights_K)
                if step % _CHECK_EVERY == 0 and not math.isfinite(loss.item()):
                    raise ChildFailedError(f"loss is {loss.item()} at step {step}", num_steps=step)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if config.max_grad_norm is not None:
                    nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
                optimizer.step()
                answers.add(logits_BK.detach(), y_B)
                step += 1
            if not math.isfinite(loss.item()):
                raise ChildFailedError(f"loss is {loss.item()} after epoch {epoch}", num_steps=step)
            trained.add(answers.accuracy(), answers.score())
            if valid is not None:
                validated.add(*accuracy_and_score(network, valid, objective))
            score = validated.scores[-1] if valid is not None else None
            _log_epoch(epoch, num_epochs, trained.accuracies[-1], score, objective)
            if on_epoch is not None:
                on_epoch(epoch, score)
    except (RuntimeError, MemoryError) as error:
        raise_if_out_of_memory(error, step)
        raise
    return Training(
        train_accuracy=tuple(trained.accuracies),
        valid_accuracy=tuple(validated.accuracies),
        train_score=tuple(trained.scores),
        valid_score=tuple(validated.scores),
        num_steps=step,
        duration_s=time.perf_counter() - start,
        data_wait_s=waiting.seconds,
    )


def _log_epoch(
    epoch: int, num_epochs: int, accuracy: float, score: float | None, objective: Objective
) -> None:
    valid = "" if score is None else f", valid {OBJECTIVES[objective]} {score:.4f}"
    _log.info("epoch %d of %d: train accuracy %.4f%s", epoch + 1, num_epochs, accuracy, valid)


def raise_if_out_of_memory(error: RuntimeError | MemoryError, num_steps: int) -> None:
    """Raise ChildFailedError when the network does not fit in memory."""
    # The CPU allocator reports a failure as a plain RuntimeError.
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if known or "allocate memory" in str(error):
        raise ChildFailedError(f"does not fit in memory: {error}", num_steps=num_steps) from error


def learning_rate(config: TrainingConfig, step: int, num_steps: int) -> float:
    """Return the rate of a step, from 0: linear warm-up, then half a cosine to `min_lr`."""
    warmup = round(config.warmup_fraction * num_steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return half_cosine((step - warmup) / max(1, num_steps - warmup), config.lr, config.min_lr)


def half_cosine(share: float, first: float, last: float) -> float:
    """Return a value that falls from `first` to `last` while `share` rises from 0 to 1."""
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * min(1.0, share)))


@torch.inference_mode()
def predict(network: nn.Module, split: Split, *, batch_size: int = 512) -> Tensor:
    """Return logits (N, num_classes) of all images of a split, in its order, in evaluation mode."""
    network.eval()
    return torch.cat([network(x_BCHW) for x_BCHW, _ in split.eval_batches(batch_size)])


def accuracy_and_score(
    network: nn.Module, split: Split, objective: Objective
) -> tuple[float, float]:
    """Return the accuracy on a split and its score in the objective, as fractions."""
    logits_NK = predict(network, split)
    accuracy = score_of("accuracy", logits_NK, split.labels)
    if objective == "accuracy":
        return accuracy, accuracy
    return accuracy, score_of(objective, logits_NK, split.labels)


def evaluate(network: nn.Module, split: Split, *, batch_size: int = 512) -> float:
    """Return the accuracy on a split, as a fraction."""
    return score_of("accuracy", predict(network, split, batch_size=batch_size), split.labels)


def planned_steps(split: Split, config: TrainingConfig) -> int:
    """Return the weight updates of a training: its epochs, or `max_steps` when that is less."""
    steps = config.epochs * split.steps_per_epoch(config)
    return steps if config.max_steps is None else min(steps, config.max_steps)


def uses_one_thread(split: Split, config: BatchSize) -> bool:
    """Return whether batches are so small that one CPU thread trains as fast as all."""
    return has_few_pixels(config.batch_size * split.size**2, split.device)


def has_few_pixels(count: int, device: torch.device) -> bool:
    """Return whether one CPU thread computes with a batch of this many pixels as fast as all."""
    return device.type == "cpu" and count < _SMALL_BATCH


def fitting_threads(split: Split, config: BatchSize) -> contextlib.AbstractContextManager[None]:
    """Return `thread_limit` for trainings with such batches."""
    return thread_limit(1 if uses_one_thread(split, config) else None)


class Descent(Protocol):
    """The settings of SGD."""

    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def sgd(
    parameters: Iterable[nn.Parameter], config: Descent, *, fused: bool = False
) -> torch.optim.SGD:
    """Return SGD, by Nesterov where there is momentum, without decay of biases and batch norm.

    Args:
        fused: one kernel for all parameters; each of them needs a gradient then.
    """
    given = [p for p in parameters if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in given if p.ndim > 1]},
        {"params": [p for p in given if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=fused,
    )


def _optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.SGD:
    # Fused: small children are bound by call overhead.
    optimizer = sgd(network.parameters(), config, fused=True)
    if config.momentum > 0:
        # The fused kernel needs a momentum buffer from the first step on.
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
