"""Stage 1: the meta-graph learns to answer whatever operations are left out.

All operations are computed at first; then each one of each image is kept with a probability that
falls. Without this, the sum of a few operations is nothing that later blocks have ever seen, and a
policy is judged at chance. Source: InstaNAS (arXiv 1811.10201, released code `pretrain/train.py`).
Departure: one cosine of the learning rate instead of two steps down.

B images, L blocks, O operations.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from nascore.config import TrainingConfig
from nascore.data.batches import Split
from nascore.errors import WeightsDivergedError
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.instanas.supernet import MetaGraph
from nascore.seeding import Seeds
from nascore.training import checkpoint
from nascore.training.loop import fitting_threads, learning_rate, planned_steps, sgd
from nascore.training.resumable import (
    TrainingCheckpoint,
    load_optimizer,
    optimizer_tensors,
    tensors_of,
)

_CHECK_EVERY = 16  # steps between looks at the loss: each one makes the host wait for a GPU


class WeightSteps:
    """SGD on the meta-graph's weights, each image along its own policy."""

    def __init__(
        self,
        graph: MetaGraph,
        config: TrainingConfig,
        class_weights_K: Tensor | None = None,
    ) -> None:
        self._graph, self._max_norm = graph, config.max_grad_norm
        self._class_weights_K = class_weights_K
        self._optimizer = sgd(graph.parameters(), config)

    def step(
        self, x_BCHW: Tensor, y_B: Tensor, policy_BLO: Tensor, *, lr: float
    ) -> tuple[Tensor, Tensor]:
        """One update; operations without an image stay as they are.

        Returns:
            The mean cross-entropy, and how many images were classified right, before the update.
        """
        self._graph.train()
        logits_BK = self._graph(x_BCHW, policy_BLO)
        loss = F.cross_entropy(logits_BK, y_B, weight=self._class_weights_K)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._graph.parameters(), self._max_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        return loss.detach(), (logits_BK.detach().argmax(1) == y_B).sum()

    def tensors(self) -> dict[str, Tensor]:
        return tensors_of("graph", self._graph) | optimizer_tensors("sgd", self._optimizer)

    def load(self, tensors: dict[str, Tensor]) -> None:
        self._graph.load_state_dict(checkpoint.below("graph.", tensors))
        load_optimizer("sgd", self._optimizer, tensors)


def keep_probability(progress: float, *, final: float, drop_start: float) -> float:
    """Return the probability that an operation is not dropped at this fraction of the training.

    It is 1 until `drop_start` and then falls linearly to `final`.
    """
    if progress <= drop_start:
        return 1.0
    return 1 - (1 - final) * (progress - drop_start) / (1 - drop_start)


def random_policy(
    num: int, policy_shape: tuple[int, int], keep: float, generator: torch.Generator
) -> Tensor:
    """Each operation of each image with this probability, bool (num, L, O), on the CPU."""
    return torch.rand(num, *policy_shape, generator=generator) < keep


def train_by_dropping(
    graph: MetaGraph,
    train: Split,
    config: TrainingConfig,
    options: InstanasOptions,
    seeds: Seeds,
    kept: TrainingCheckpoint,
    *,
    report: Callable[[dict[str, float], int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Trains the meta-graph in place; goes on from `kept` where it was cut off.

    Raises:
        WeightsDiverged: the loss is not finite.
        InputError: the checkpoint is damaged, or of another training.
    """
    steps = planned_steps(train, config)
    weights = WeightSteps(graph, config, train.class_weights_K)
    before, step = kept.load(), 0
    if before is not None:
        weights.load(before[0])
        step = int(before[1]["step"])

    def policy_of(images: int) -> Tensor:
        keep = keep_probability(
            step / steps, final=options.final_keep_prob, drop_start=options.drop_start
        )
        generator = seeds.torch("pretraining", "policy", step)
        return random_policy(images, graph.policy_shape, keep, generator)

    with fitting_threads(train, config):
        while step < steps and not should_stop():
            epoch, done = divmod(step, train.steps_per_epoch(config))
            generator = seeds.torch("pretraining", "batches", epoch)
            for x_BCHW, y_B in train.train_batches(config, generator, start=done):
                if step == steps or should_stop():
                    break
                policy_BLO = policy_of(len(x_BCHW)).to(x_BCHW.device)
                rate = learning_rate(config, step, steps)
                loss, _ = weights.step(x_BCHW, y_B, policy_BLO, lr=rate)
                step += 1
                if step % _CHECK_EVERY == 0 or step == steps:
                    report({"pretraining/loss": finite(loss, step, config.lr)}, step)
                    if kept.is_due() or step == steps:
                        kept.save(weights.tensors(), step=step)
        kept.save(weights.tensors(), step=step)


def finite(loss: Tensor, step: int, lr: float) -> float:
    """The loss as a number; raises WeightsDiverged when it is none."""
    value = float(loss)
    if not math.isfinite(value):
        raise WeightsDivergedError(
            f"the loss of the meta-graph is {value} at step {step}; lower its learning rate, {lr:g}"
        )
    return value
