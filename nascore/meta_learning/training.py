"""Meta-training a network on tasks of some classes, and judging it by tasks of others.

An outer step draws a few tasks, lets each pull at the shared weights
(`nascore.meta_learning.learners`) and goes where they pull in the mean: by plain descent, as
Reptile does, or by Adam, as MAML does. Its rate falls along a line to 0, as in Reptile's released
code.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nascore.data.episodes import Episodes, EpisodeSampler
from nascore.errors import ChildFailedError
from nascore.meta_learning.engine import ExecutionMode, OneTask, TaskEngine
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
from nascore.meta_learning.options import Learner, MetaOptions
from nascore.meta_learning.task_adaptation import Grad, plain_grad
from nascore.training.loop import TrainingStopped, raise_if_out_of_memory

_CHECK_EVERY = 16  # steps between looks at the weights: each one makes the host wait for a GPU
_JUDGED_AT_ONCE = 10  # tasks; each query image brings the whole support set with it

TRAIN, JUDGE = "train", "judge"
"""Kinds of work, for the engine."""

OnStep = Callable[[int], None]
"""Called with the outer steps that are done."""


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


def inner_of(options: MetaOptions, *, judging: bool = False) -> Inner:
    """How a task is learned: one of the training, or one by which the network is judged."""
    steps = options.inner_steps
    if judging and options.judge_steps is not None:
        steps = options.judge_steps
    return Inner(
        options.inner_optimiser,
        options.inner_lr,
        steps,
        prototypes=options.last_layer == "prototypes",
    )


def meta_train(
    network: nn.Module,
    sampler: EpisodeSampler,
    options: MetaOptions,
    *,
    generator: torch.Generator,
    engine: TaskEngine,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: OnStep | None = None,
) -> MetaTrained:
    """Meta-trains from the network's weights; these stay as they are, see `stateless`.

    Args:
        network: on the device of the sampler; (B, C, H, W) -> logits (B, ways).
        sampler: of training classes.
        generator: on the device of the sampler; draws tasks and inner batches.
        engine: runs the tasks of a step.
        should_stop: polled before every outer step.

    Raises:
        ChildFailed: the weights are not finite, or the work does not fit in memory.
        Stopped: `should_stop` said so.
    """
    start, step = time.perf_counter(), 0
    inner = inner_of(options)
    forward, parameters = stateless(network)
    outer = _Outer(parameters, options)
    try:
        for step in range(options.outer_steps):
            if should_stop():
                raise TrainingStopped
            drawn = sampler.draw(options.tasks, generator)
            if options.turned:
                drawn = turned(drawn, generator)
            gradient = partial(
                task_gradient, forward, outer.parameters, learner=options.learner, inner=inner
            )
            plain = None if options.learner == "maml" else gradient(grad=plain_grad)
            tensors = task_tensors(drawn, options, generator)
            outer.step(
                engine.run(TRAIN, gradient(), *tensors, plain=plain),
                options.outer_lr * (1 - step / options.outer_steps),
            )
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


def task_gradient(
    forward: Forward,
    parameters: Parameters,
    *,
    learner: Learner,
    inner: Inner,
    grad: Grad = torch.func.grad,
) -> OneTask:
    """What one task pulls the shared weights by, as a function of `task_tensors`.

    Args:
        grad: MAML needs the default.
    """
    if learner == "maml":
        return partial(maml_gradient, forward, parameters, inner=inner)
    if learner == "fomaml":
        return partial(fomaml_gradient, forward, parameters, inner=inner, grad=grad)

    def reptile(support_x: Tensor, support_y: Tensor, *batches: Tensor) -> Parameters:
        chosen = batches[0] if batches else None
        return reptile_gradient(
            forward, parameters, support_x, support_y, inner=inner, batches=chosen, grad=grad
        )

    return reptile


def task_tensors(
    drawn: Episodes, options: MetaOptions, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """What the learner reads of tasks, each tensor with tasks first."""
    support = (drawn.support_x, drawn.support_y)
    if options.learner != "reptile":
        return (*support, drawn.query_x, drawn.query_y)
    num_tasks, num_images = drawn.support_y.shape
    if options.inner_batch is None or options.inner_batch >= num_images:
        return support
    shape = (num_tasks, options.inner_steps, num_images)
    order_TSN = torch.rand(shape, generator=generator, device=drawn.support_x.device)
    return (*support, order_TSN.argsort(dim=2)[..., : options.inner_batch])


def turned(drawn: Episodes, generator: torch.Generator) -> Episodes:
    """Each class of each task turned by a random multiple of 90 degrees, all its images alike."""
    device = drawn.support_x.device
    turns_TW = torch.randint(4, drawn.classes.shape, generator=generator, device=device)
    parts = [
        _turned(x, turns_TW.gather(1, y))
        for x, y in ((drawn.support_x, drawn.support_y), (drawn.query_x, drawn.query_y))
    ]
    return dataclasses.replace(drawn, support_x=parts[0], query_x=parts[1])


def _turned(x_TNCHW: Tensor, turns_TN: Tensor) -> Tensor:
    result = x_TNCHW.clone()
    for turns in (1, 2, 3):
        chosen_TN = turns_TN == turns
        result[chosen_TN] = x_TNCHW[chosen_TN].rot90(turns, (2, 3))
    return result


class _Outer:
    """The shared weights, and the optimiser that moves them."""

    def __init__(self, parameters: Parameters, options: MetaOptions) -> None:
        self.parameters = parameters
        self._adam: torch.optim.Adam | None = None
        if options.outer_optimiser == "adam":
            self._adam = torch.optim.Adam(list(parameters.values()), lr=options.outer_lr)

    def step(self, gradients: Parameters, rate: float) -> None:
        """
        Args:
            gradients: (T, ...) for each parameter.
        """
        if self._adam is None:
            self.parameters = meta_step(self.parameters, gradients, rate)
            return
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name].mean(0)
        self._adam.param_groups[0]["lr"] = rate
        self._adam.step()


def judge(
    trained: MetaTrained,
    sampler: EpisodeSampler,
    options: MetaOptions,
    *,
    num_tasks: int,
    generator: torch.Generator,
    engine: TaskEngine,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Accuracy (num_tasks,) on query images after adaptation, task by task.

    Raises:
        Stopped: `should_stop` said so.
    """
    accuracy = partial(
        adapted_accuracy,
        trained.forward,
        trained.parameters,
        inner=inner_of(options, judging=True),
        transductive=options.transductive,
    )
    accuracies = []
    for start in range(0, num_tasks, _JUDGED_AT_ONCE):
        if should_stop():
            raise TrainingStopped
        drawn = sampler.draw(min(_JUDGED_AT_ONCE, num_tasks - start), generator)
        task = (drawn.support_x, drawn.support_y, drawn.query_x, drawn.query_y)
        plain = partial(accuracy, grad=plain_grad)
        accuracies.append(engine.run(JUDGE, accuracy, *task, plain=plain))
    return torch.cat(accuracies)


def measured_ways(
    network: nn.Module,
    train: EpisodeSampler,
    valid: EpisodeSampler,
    options: MetaOptions,
    generator: torch.Generator,
) -> dict[str, dict[ExecutionMode, float]]:
    """Seconds of an outer step and of judging a few tasks, by the way in which tasks are run."""
    engine = TaskEngine()
    once = options.model_copy(update={"outer_steps": 1})
    trained = meta_train(network, train, once, generator=generator, engine=engine)
    judge(trained, valid, options, num_tasks=_JUDGED_AT_ONCE, generator=generator, engine=engine)
    return {str(key[0]): seconds for key, seconds in engine.seconds.items()}
