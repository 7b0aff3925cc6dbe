"""The winner and the four convolutions of MAML, meta-trained alike and tested on the same tasks.

The four convolutions have no fewer weights than the winner: with fewer, a difference would say
little, since networks with more weights overfit few-shot tasks sooner.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascore.context import SearchContext, device_of
from nascore.data.episodes import FewShotData
from nascore.genotype import Genotype
from nascore.meta_learning.convnet import FourConvolutions
from nascore.meta_learning.engine import TaskEngine
from nascore.meta_learning.few_shot_model import FewShotLearner
from nascore.meta_learning.learners import TaskScores
from nascore.meta_learning.options import MetaOptions
from nascore.meta_learning.task_adaptation import TaskSettings
from nascore.meta_learning.training import MetaTrained, OnStep, inner_of, judge, meta_train
from nascore.methods.auto_meta.child import has_small_steps, judging_shape, training_shape
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape
from nascore.spaces.fewshot.space import FewShotCellSpace, depth, width
from nascore.spaces.flops import count
from nascore.training.child import build_network
from nascore.training.final_model import FinalModel
from nascore.training.parallel_arms import run_pair
from nascore.training.threads import threads_of


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A meta-trained network and its accuracy, task by task.

    Attributes:
        train, valid: of tasks of these classes, with `episode.shots`.
        tests: of tasks of test classes, by shots.
    """

    trained: MetaTrained
    num_params: int
    train: Tensor
    valid: Tensor
    tests: Mapping[int, Tensor]


def meta_train_final(
    task: SearchContext,
    options: AutoMetaOptions,
    genotype: Genotype,
    *,
    stages: Sequence[Mapping[str, Any]],
) -> FinalModel:
    """Full meta-training; each test class is seen here alone, once for each number of shots.

    Args:
        stages: of the search, for the details.

    Raises:
        ChildFailed: the weights of one of the two are not finite.
        Stopped: `task.callbacks.should_stop` said so.
    """
    seed = task.seeds.integer("final", "weights")
    network = build_network(task.space, genotype, task.shape, seed=seed, final=True)
    cost = count(network, task.shape)
    channels = channels_of(task.shape, at_least=cost.num_params)
    with seeded_weights(task.seeds.integer("final", "four convolutions")):
        shape = task.shape
        four = FourConvolutions(shape.channels, shape.size, shape.num_classes, channels=channels)
    data = FewShotData.of(task.splits)
    # Where each has one thread in any case, the other core would be idle.
    on_cpu = device_of(task.final).type == "cpu"
    at_once = (on_cpu and torch.get_num_threads() == 1) or has_small_steps(
        task, options.episode, options.final
    )
    own, other = run_pair(
        lambda: _judged(
            task, options, options.final, data, network, on_step=_progress_of(task, options)
        ),
        lambda: _judged(task, options, options.control, data, four),
        at_once=at_once,
    )
    details = _details(task, options, genotype, own, other, channels)
    _report(task, details)
    return FinalModel(
        genotype=genotype,
        shape=task.shape,
        network=FewShotLearner.of(network, own.trained.parameters, _settings(task, options)).eval(),
        train_accuracy=TaskScores.of(own.train).mean,
        valid_accuracy=TaskScores.of(own.valid).mean,
        test_accuracy=TaskScores.of(own.tests[options.episode.shots]).mean,
        num_params=cost.num_params,
        macs=cost.macs,
        num_steps=own.trained.num_steps,
        duration_s=own.trained.duration_s,
        details={"auto_meta": {**details, "stages": [dict(stage) for stage in stages]}},
    )


def _settings(task: SearchContext, options: AutoMetaOptions) -> TaskSettings:
    """How the winner learns a task when nobody trains it any more."""
    shape, inner = task.shape, inner_of(options.final, judging=True)
    size = (shape.channels, shape.size, shape.size)
    return TaskSettings(options.episode.ways, size, inner, options.final.transductive)


def channels_of(shape: ImageShape, *, at_least: int) -> int:
    """The fewest with which the four convolutions have so many weights."""
    return next(
        channels
        for channels in itertools.count(1)
        if _num_params(
            FourConvolutions(shape.channels, shape.size, shape.num_classes, channels=channels)
        )
        >= at_least
    )


def _num_params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _progress_of(task: SearchContext, options: AutoMetaOptions) -> OnStep:
    """Tells how much of the meta-training is done, a hundred times."""
    steps = options.final.outer_steps
    every = max(1, steps // 100)

    def on_step(done: int) -> None:
        if done % every == 0:
            task.callbacks.on_progress("method", done / steps)

    return on_step


def _judged(
    task: SearchContext,
    options: AutoMetaOptions,
    meta: MetaOptions,
    data: FewShotData,
    network: nn.Module,
    *,
    on_step: OnStep | None = None,
) -> Evaluation:
    """Both networks draw the same tasks, in training and in the tests."""
    device, seeds = device_of(task.final), task.seeds
    episode, engine, num_params = options.episode, TaskEngine(), _num_params(network)

    def accuracies(split: str, shots: int, num_tasks: int) -> Tensor:
        return judge(
            trained,
            data.sampler(split, judging_shape(episode, shots=shots)),
            meta,
            num_tasks=num_tasks,
            generator=seeds.torch("final", split, shots, device=device),
            engine=engine,
            should_stop=task.callbacks.should_stop,
        )

    with threads_of(one=has_small_steps(task, episode, meta)):
        trained = meta_train(
            network.to(device),
            data.sampler("train", training_shape(episode, meta)),
            meta,
            generator=seeds.torch("final", "tasks", device=device),
            engine=engine,
            should_stop=task.callbacks.should_stop,
            on_step=on_step,
        )
        return Evaluation(
            trained,
            num_params,
            train=accuracies("train", episode.shots, options.valid_episodes),
            valid=accuracies("valid", episode.shots, options.valid_episodes),
            tests={
                shots: accuracies("test", shots, options.test_episodes)
                for shots in sorted({*options.test_shots, episode.shots})
            },
        )


def _details(
    task: SearchContext,
    options: AutoMetaOptions,
    genotype: Genotype,
    own: Evaluation,
    other: Evaluation,
    channels: int,
) -> dict[str, Any]:
    assert isinstance(task.space, FewShotCellSpace)
    cell = task.space.cell(genotype)
    return {
        "episode": options.episode.model_dump(mode="json"),
        "learner": options.final.learner,
        "inner": dataclasses.asdict(inner_of(options.final, judging=True)),
        "transductive": options.final.transductive,
        "cell": {
            "architecture": task.space.describe(genotype),
            "blocks": len(cell),
            "depth": depth(cell),
            "width": width(cell),
        },
        "num_params": own.num_params,
        "four_convolutions": {
            "channels": channels,
            "num_params": other.num_params,
            "inner": dataclasses.asdict(inner_of(options.control, judging=True)),
            "valid_accuracy": TaskScores.of(other.valid).mean,
            "duration_s": other.trained.duration_s,
        },
        "tests": [_test(shots, own.tests[shots], other.tests[shots]) for shots in own.tests],
    }


def _test(shots: int, own_T: Tensor, other_T: Tensor) -> dict[str, Any]:
    """Accuracies with half of their 95 % intervals; the difference is of the same tasks."""
    scores = {
        "own": TaskScores.of(own_T),
        "four_convolutions": TaskScores.of(other_T),
        "difference": TaskScores.of(own_T - other_T),
    }
    return {"shots": shots} | {name: dataclasses.asdict(value) for name, value in scores.items()}


def _report(task: SearchContext, details: Mapping[str, Any]) -> None:
    for test in details["tests"]:
        name = f"final/test_{test['shots']}_shot"
        for who in ("own", "four_convolutions"):
            suffix = "" if who == "own" else f"_{who}"
            task.callbacks.on_metrics(
                {
                    f"{name}{suffix}": test[who]["mean"],
                    f"{name}{suffix}_interval": test[who]["interval"],
                },
                0,
            )
