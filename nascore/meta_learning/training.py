"""Meta-training of a network on tasks of some classes, and evaluation on tasks of others.

An outer step draws a few tasks, computes for each a gradient of the shared weights
(`nascore.meta_learning.learners`) and moves the weights against the mean: by plain descent for
Reptile, by Adam for MAML. The rate falls linearly to 0, as in Reptile's released code.

Shapes: T tasks, N images of a support set, S inner steps, B images of an inner step.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nascore.context import NO_CALLBACKS
from nascore.data.episodes import Episodes, EpisodeSampler
from nascore.errors import ChildFailedError
from nascore.meta_learning.execution import OneTask, run_looped, run_vmapped
from nascore.meta_learning.learners import (
    Forward,
    Inner,
    Parameters,
    adapted_accuracy,
    fomaml_gradient,
    maml_gradient,
    meta_step,
    reptile_gradient,
    stateless,
)
from nascore.meta_learning.options import EpisodeOptions, MetaOptions
from nascore.meta_learning.task_adaptation import plain_grad
from nascore.training.loop import TrainingStopped, raise_if_out_of_memory

_CHECK_EVERY = 16  # steps between checks of the weights: each one makes the host wait for a GPU
_TASKS_AT_ONCE = 10  # in an evaluation; each query image brings the whole support set with it
_REPTILE_BATCH = 10  # images of an inner step, where tasks have `train_shots`; as in its release

OnStep = Callable[[int], None]
"""Called with the number of outer steps so far."""


@dataclass(frozen=True, slots=True)
class MetaTrained:
    """A network as a function, and the weights from which it learns tasks.

    Attributes:
        num_steps: outer steps.
        duration_s: wall seconds.
    """

    forward: Forward
    parameters: Parameters
    num_steps: int
    duration_s: float


def inner_of(options: MetaOptions, *, evaluation: bool = False) -> Inner:
    """Return how a task is learned: in training, or in an evaluation."""
    steps = options.inner_steps
    if evaluation and options.eval_inner_steps is not None:
        steps = options.eval_inner_steps
    is_reptile = options.learner == "reptile"
    return Inner(
        "adam" if is_reptile else "sgd",
        options.inner_lr or (0.001 if is_reptile else 0.01),
        steps,
        prototypes=options.last_layer == "prototypes",
    )


def meta_train(
    network: nn.Module,
    sampler: EpisodeSampler,
    episode: EpisodeOptions,
    options: MetaOptions,
    *,
    generator: torch.Generator,
    should_stop: Callable[[], bool] = NO_CALLBACKS.should_stop,
    on_step: OnStep | None = None,
) -> MetaTrained:
    """Meta-train from the network's weights; these stay as they are, see `stateless`.

    Args:
        network: on the device of the sampler; (B, C, H, W) -> logits (B, ways).
        sampler: of training classes.
        episode: tasks; their size is that of the sampler.
        generator: on the device of the sampler; draws tasks and inner batches.
        should_stop: polled before every outer step.

    Returns:
        The trained weights.

    Raises:
        ChildFailedError: the weights are not finite, or the work does not fit in memory.
        TrainingStopped: `should_stop` returned true.
    """
    start, step = time.perf_counter(), 0
    forward, parameters = stateless(network)
    outer = _OuterOptimiser(parameters, options)
    run = run_vmapped if options.learner == "maml" else run_looped
    try:
        for step in range(options.outer_steps):
            if should_stop():
                raise TrainingStopped
            drawn = sampler.draw(options.tasks, generator)
            if episode.rotate_classes:
                drawn = rotate_classes(drawn, generator)
            gradient = task_gradient(forward, outer.parameters, options)
            gradients = run(gradient, *task_tensors(drawn, episode, options, generator))
            outer.step(gradients, 1 - step / options.outer_steps)
            if step % _CHECK_EVERY == 0 or step == options.outer_steps - 1:
                _check_finite(outer.parameters, step)
            if on_step is not None:
                on_step(step + 1)
    except (RuntimeError, MemoryError) as error:
        raise_if_out_of_memory(error, step)
        raise
    seconds = time.perf_counter() - start
    return MetaTrained(forward, outer.parameters, options.outer_steps, seconds)


def _check_finite(parameters: Parameters, step: int) -> None:
    if not all(bool(p.isfinite().all()) for p in parameters.values()):
        raise ChildFailedError(f"weights are not finite after step {step}", num_steps=step + 1)


def task_gradient(forward: Forward, parameters: Parameters, options: MetaOptions) -> OneTask:
    """Return the gradient of the shared weights, as a function of one task's `task_tensors`."""
    inner = inner_of(options)
    if options.learner == "maml":
        return partial(maml_gradient, forward, parameters, inner=inner)
    first_order = fomaml_gradient if options.learner == "fomaml" else reptile_gradient
    return partial(first_order, forward, parameters, inner=inner, grad=plain_grad)


def task_tensors(
    drawn: Episodes, episode: EpisodeOptions, options: MetaOptions, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Return the tensors that the learner reads, each with tasks first.

    They are the support set, then for MAML the queries, and for Reptile the images of each inner
    step (T, S, B) where the support set is larger than a step.
    """
    support = (drawn.support_x, drawn.support_y)
    if options.learner != "reptile":
        return (*support, drawn.query_x, drawn.query_y)
    num_tasks, num_images = drawn.support_y.shape
    batch = max(_REPTILE_BATCH, episode.ways)
    if episode.train_shots is None or batch >= num_images:
        return support
    shape = (num_tasks, options.inner_steps, num_images)
    order_TSN = torch.rand(shape, generator=generator, device=drawn.support_x.device)
    return (*support, order_TSN.argsort(dim=2)[..., :batch])


def rotate_classes(drawn: Episodes, generator: torch.Generator) -> Episodes:
    """Rotate each class of each task by a random multiple of 90 degrees."""
    device = drawn.support_x.device
    turns_TW = torch.randint(4, drawn.classes.shape, generator=generator, device=device)
    support_x, query_x = (
        _rotated(x, turns_TW.gather(1, y))
        for x, y in ((drawn.support_x, drawn.support_y), (drawn.query_x, drawn.query_y))
    )
    return dataclasses.replace(drawn, support_x=support_x, query_x=query_x)


def _rotated(x_TNCHW: Tensor, turns_TN: Tensor) -> Tensor:
    result = x_TNCHW.clone()
    for turns in (1, 2, 3):
        chosen_TN = turns_TN == turns
        result[chosen_TN] = x_TNCHW[chosen_TN].rot90(turns, (2, 3))
    return result


class _OuterOptimiser:
    """The shared weights, and the optimiser that moves them."""

    def __init__(self, parameters: Parameters, options: MetaOptions) -> None:
        self.parameters = parameters
        is_reptile = options.learner == "reptile"
        self._lr = options.outer_lr or (1.0 if is_reptile else 0.001)
        self._adam = None if is_reptile else torch.optim.Adam(list(parameters.values()), self._lr)

    def step(self, gradients: Parameters, decay: float) -> None:
        """Move the weights.

        Args:
            gradients: (T, ...) for each parameter.
            decay: factor of the rate.
        """
        rate = self._lr * decay
        if self._adam is None:
            self.parameters = meta_step(self.parameters, gradients, rate)
            return
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name].mean(0)
        self._adam.param_groups[0]["lr"] = rate
        self._adam.step()


def evaluate(
    trained: MetaTrained,
    sampler: EpisodeSampler,
    episode: EpisodeOptions,
    options: MetaOptions,
    *,
    num_tasks: int,
    generator: torch.Generator,
    should_stop: Callable[[], bool] = NO_CALLBACKS.should_stop,
) -> Tensor:
    """Return the accuracy on the queries of each task after adaptation, (num_tasks,).

    Raises:
        TrainingStopped: `should_stop` returned true.
    """
    accuracy = partial(
        adapted_accuracy,
        trained.forward,
        trained.parameters,
        inner=inner_of(options, evaluation=True),
        transductive=episode.transductive,
        grad=plain_grad,
    )
    accuracies = []
    for start in range(0, num_tasks, _TASKS_AT_ONCE):
        if should_stop():
            raise TrainingStopped
        drawn = sampler.draw(min(_TASKS_AT_ONCE, num_tasks - start), generator)
        task = (drawn.support_x, drawn.support_y, drawn.query_x, drawn.query_y)
        accuracies.append(run_looped(accuracy, *task))
    return torch.cat(accuracies)
