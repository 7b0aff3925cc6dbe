"""Final meta-training: the winner and Conv-4, trained alike and tested on the same tasks.

Conv-4 has at least as many weights as the winner: with fewer, a difference would mean little, since
networks with more weights overfit few-shot tasks sooner.
"""

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascore.context import SearchContext, device_of
from nascore.data.episodes import FewShotData
from nascore.genotype import Genotype
from nascore.meta_learning.conv4 import Conv4
from nascore.meta_learning.few_shot_model import FewShotLearner
from nascore.meta_learning.learners import TaskScores
from nascore.meta_learning.options import BASELINE, MetaOptions
from nascore.meta_learning.task_adaptation import TaskSettings
from nascore.meta_learning.training import MetaTrained, OnStep, evaluate, inner_of, meta_train
from nascore.methods.auto_meta.child import evaluation_shape, has_small_steps
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape
from nascore.spaces.fewshot.space import FewShotCellSpace, depth, width
from nascore.spaces.flops import count
from nascore.threads import thread_limit
from nascore.training.child import build_network
from nascore.training.final_model import FinalModel
from nascore.training.parallel_arms import run_pair

_TEST_TASKS = 600  # for each number of shots; usual in the literature
_NUM_REPORTS = 100  # of the progress
_NUM_LOGGED = 10  # of these

_log = logging.getLogger(__name__)

Context = SearchContext[AutoMetaOptions]


@dataclass(frozen=True, slots=True)
class _Tested:
    """A meta-trained network and its accuracy on each task.

    Attributes:
        train, valid: on tasks of these classes, with `episode.shots`.
        tests: on tasks of test classes, by shots.
    """

    trained: MetaTrained
    num_params: int
    train: Tensor
    valid: Tensor
    tests: Mapping[int, Tensor]


def meta_train_final(
    context: Context, genotype: Genotype, *, stages: Sequence[Mapping[str, Any]]
) -> FinalModel:
    """Meta-train the winner and Conv-4, and test both; only here test classes are used.

    Args:
        stages: figures of the search, for the details.

    Raises:
        ChildFailedError: the weights of one of the two are not finite.
        TrainingStopped: `context.callbacks.should_stop` returned true.
    """
    options, seeds, shape = context.options, context.seeds, context.shape
    seed = seeds.integer("final", "weights")
    network = build_network(context.space, genotype, shape, seed=seed, final=True)
    cost = count(network, shape)
    channels = channels_of(shape, at_least=cost.num_params)
    with seeded_weights(seeds.integer("final", "four convolutions")):
        conv4 = Conv4(shape.channels, shape.size, shape.num_classes, channels=channels)
    data = FewShotData(context.splits)
    # Where each training uses one thread, the other core would be idle.
    on_cpu = device_of(context.training).type == "cpu"
    at_once = (on_cpu and torch.get_num_threads() == 1) or has_small_steps(
        context, options.episode, options.meta
    )
    own, other = run_pair(
        lambda: _tested(context, options.final_meta, data, network, on_step=_progress(context)),
        lambda: _tested(context, options.conv4_meta, data, conv4),
        at_once=at_once,
    )
    details = _details(context, genotype, own, other, channels)
    _report(context, details["tests"])
    return FinalModel(
        genotype=genotype,
        shape=shape,
        network=FewShotLearner.of(network, own.trained.parameters, _settings(context)).eval(),
        train_accuracy=TaskScores.of(own.train).mean,
        valid_accuracy=TaskScores.of(own.valid).mean,
        test_accuracy=TaskScores.of(own.tests[options.episode.shots]).mean,
        num_params=cost.num_params,
        macs=cost.macs,
        num_steps=own.trained.num_steps,
        duration_s=own.trained.duration_s,
        details={"auto_meta": {**details, "stages": [dict(stage) for stage in stages]}},
    )


def _settings(context: Context) -> TaskSettings:
    """Return how the trained winner learns a task."""
    shape, options = context.shape, context.options
    inner = inner_of(options.final_meta, evaluation=True)
    size = (shape.channels, shape.size, shape.size)
    return TaskSettings(options.episode.ways, size, inner, options.episode.transductive)


def channels_of(shape: ImageShape, *, at_least: int) -> int:
    """Return the smallest number of channels with which Conv-4 has so many weights."""
    return next(
        channels
        for channels in itertools.count(1)
        if _num_params(Conv4(shape.channels, shape.size, shape.num_classes, channels=channels))
        >= at_least
    )


def _num_params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _progress(context: Context) -> OnStep:
    """Return a callback that reports the completed fraction of the meta-training."""
    steps = context.options.final.outer_steps
    every, log_every = max(1, steps // _NUM_REPORTS), max(1, steps // _NUM_LOGGED)

    def on_step(done: int) -> None:
        if done % every == 0:
            context.callbacks.on_progress("method", done / steps)
        if done % log_every == 0:
            _log.info("final meta-training: %d of %d outer steps", done, steps)

    return on_step


def _tested(
    context: Context,
    meta: MetaOptions,
    data: FewShotData,
    network: nn.Module,
    *,
    on_step: OnStep | None = None,
) -> _Tested:
    """Meta-train and test a network; both networks draw the same tasks."""
    options, seeds, device = context.options, context.seeds, device_of(context.training)
    episode, num_params = options.episode, _num_params(network)
    should_stop = context.callbacks.should_stop

    def accuracies(split: str, shots: int, num_tasks: int) -> Tensor:
        return evaluate(
            trained,
            data.sampler(split, evaluation_shape(episode, shots)),
            episode,
            meta,
            num_tasks=num_tasks,
            generator=seeds.torch("final", split, shots, device=device),
            should_stop=should_stop,
        )

    with thread_limit(1 if has_small_steps(context, episode, meta) else None):
        trained = meta_train(
            network.to(device),
            data.sampler("train", episode.training_shape),
            episode,
            meta,
            generator=seeds.torch("final", "tasks", device=device),
            should_stop=should_stop,
            on_step=on_step,
        )
        return _Tested(
            trained,
            num_params,
            train=accuracies("train", episode.shots, options.valid_episodes),
            valid=accuracies("valid", episode.shots, options.valid_episodes),
            tests={
                shots: accuracies("test", shots, _TEST_TASKS)
                for shots in sorted({*options.test_shots, episode.shots})
            },
        )


def _details(
    context: Context, genotype: Genotype, own: _Tested, other: _Tested, channels: int
) -> dict[str, Any]:
    """Return the figures of both networks, as the report reads them."""
    assert isinstance(context.space, FewShotCellSpace)
    cell, options = context.space.cell(genotype), context.options
    return {
        "episode": options.episode.model_dump(mode="json"),
        "learner": options.meta.learner,
        "inner": dataclasses.asdict(inner_of(options.final_meta, evaluation=True)),
        "transductive": options.episode.transductive,
        "cell": {
            "architecture": context.space.describe(genotype),
            "blocks": len(cell),
            "depth": depth(cell),
            "width": width(cell),
        },
        "num_params": own.num_params,
        BASELINE: {
            "channels": channels,
            "num_params": other.num_params,
            "inner": dataclasses.asdict(inner_of(options.conv4_meta, evaluation=True)),
            "valid_accuracy": TaskScores.of(other.valid).mean,
            "duration_s": other.trained.duration_s,
        },
        "tests": [_test(shots, own.tests[shots], other.tests[shots]) for shots in own.tests],
    }


def _test(shots: int, own_T: Tensor, other_T: Tensor) -> dict[str, Any]:
    """Return accuracies with half of their 95 % intervals; differences are paired by task."""
    scores = {
        "own": TaskScores.of(own_T),
        BASELINE: TaskScores.of(other_T),
        "difference": TaskScores.of(own_T - other_T),
    }
    return {"shots": shots} | {name: dataclasses.asdict(value) for name, value in scores.items()}


def _report(context: Context, tests: Sequence[Mapping[str, Any]]) -> None:
    """Report the test accuracies as metrics, and log them."""
    for test in tests:
        for name, suffix in (("own", ""), (BASELINE, f"_{BASELINE}")):
            prefix = f"final/test_{test['shots']}_shot{suffix}"
            mean, interval = test[name]["mean"], test[name]["interval"]
            context.callbacks.on_metrics({prefix: mean, f"{prefix}_interval": interval}, 0)
            _log.info("%s: accuracy %.4f +- %.4f", prefix, mean, interval)
