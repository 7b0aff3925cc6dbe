"""Stage 1: the meta-graph is trained with operations dropped at random.

All operations are computed at first; then each operation of each image is dropped with a
probability that rises. Otherwise the sum of a few operations would be an input that later blocks
have never received, and a policy would have chance accuracy. Source: InstaNAS (arXiv 1811.10201,
released code `pretrain/train.py`). Departure: one cosine of the learning rate instead of two steps.

B images, L blocks, O operations.
"""

import logging

import torch
from torch import Tensor
from torch.nn import functional as F

from nascore.methods.common.one_shot_loop import CHECK_EVERY, check_finite, endless_batches
from nascore.methods.common.weight_updates import WeightUpdates
from nascore.methods.instanas.networks import Context
from nascore.methods.instanas.supernet import MetaGraph
from nascore.training.loop import fitting_threads, planned_steps
from nascore.training.resumable import TrainingCheckpoint
from nascore.training.schedule import learning_rate

_log = logging.getLogger(__name__)


def routed_step(
    updates: WeightUpdates[MetaGraph], x_BCHW: Tensor, y_B: Tensor, policy_BLO: Tensor, *, lr: float
) -> tuple[Tensor, Tensor]:
    """Update the meta-graph once, each image through its own operations.

    Operations without an image are unchanged.

    Args:
        policy_BLO: the operations of each image, bool.

    Returns:
        The mean cross-entropy, and the number of correctly classified images, before the update.
    """
    graph = updates.supernet
    graph.train()
    logits_BK = graph(x_BCHW, policy_BLO)
    loss = F.cross_entropy(logits_BK, y_B, weight=updates.class_weights_K)
    updates.descend(loss, graph, lr=lr)
    return loss.detach(), (logits_BK.detach().argmax(1) == y_B).sum()


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
    """Return policies that have each operation with probability `keep`, bool (num, L, O), CPU."""
    return torch.rand(num, *policy_shape, generator=generator) < keep


def train_by_dropping(context: Context, graph: MetaGraph, checkpoint: TrainingCheckpoint) -> None:
    """Train the meta-graph in place; continue from the checkpoint of an earlier process.

    Args:
        graph: on the device of the search.

    Raises:
        WeightsDivergedError: the loss is not finite.
        InputError: the checkpoint is damaged, or of another training.
    """
    options, seeds, split = context.options, context.seeds, context.splits.train
    training = options.pretraining.resolve(context.training)
    steps = planned_steps(split, training)
    updates = WeightUpdates(graph, training, split.class_weights_K)
    step, found = 0, checkpoint.load()
    if found is not None:
        updates.load(found[0])
        step = int(found[1]["step"])
    batches = endless_batches(
        split, training, lambda epoch: seeds.torch("pretraining", "batches", epoch), start=step
    )
    with fitting_threads(split, training):
        while step < steps and not context.callbacks.should_stop():
            x_BCHW, y_B = next(batches)
            keep = keep_probability(
                step / steps, final=options.final_keep_prob, drop_start=options.drop_start
            )
            generator = seeds.torch("pretraining", "policy", step)
            policy_BLO = random_policy(len(x_BCHW), graph.policy_shape, keep, generator)
            loss, _ = routed_step(
                updates,
                x_BCHW,
                y_B,
                policy_BLO.to(x_BCHW.device),
                lr=learning_rate(training, step, steps),
            )
            step += 1
            if step % CHECK_EVERY == 0 or step == steps:
                value = float(loss)
                check_finite(value, step, key="search.options.pretraining.lr", lr=training.lr)
                context.callbacks.on_metrics({"pretraining/loss": value}, step)
            if step % split.steps_per_epoch(training) == 0:
                _log.info("pre-training: step %d of %d, loss %.4g", step, steps, float(loss))
            if checkpoint.is_due():
                checkpoint.save(updates.tensors(), step=step)
        checkpoint.save(updates.tensors(), step=step)
