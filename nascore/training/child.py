"""One child: its network, what it costs, and its training from scratch."""

import time
from collections.abc import Callable
from typing import Protocol

import torch

from nascore.config import CostConfig, LatencyConfig
from nascore.context import SearchContext, device_of
from nascore.genotype import Genotype
from nascore.latency import benchmark
from nascore.results import ChildScores
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.spaces.flops import count
from nascore.training.loop import OnEpoch, planned_steps, train, uses_one_thread

_LATENCY_RUNS = 30  # of an untrained network, per child; the final model is measured with care


def build_network(
    space: SearchSpace, genotype: Genotype, shape: ImageShape, *, seed: int, final: bool = False
) -> torch.nn.Module:
    """A network with initial weights that depend on `seed` alone; the global generator is kept."""
    with seeded_weights(seed):
        return space.build(genotype, shape, "final" if final else "search")


def cost_of(task: SearchContext, genotype: Genotype, config: CostConfig) -> float:
    """Parameters, multiply-adds or milliseconds of the *final* network of a genotype, untrained."""
    network = build_network(task.space, genotype, task.shape, seed=0, final=True)
    if config.metric == "latency_ms":
        protocol = LatencyConfig(device=task.training.device, runs=_LATENCY_RUNS)
        return benchmark.measure(network, task.shape, protocol).p50_ms
    return float(getattr(count(network, task.shape), config.metric))


def train_child(
    task: SearchContext,
    genotype: Genotype,
    *,
    arm: str,
    number: int,
    cost: float | None = None,
    on_epoch: OnEpoch | None = None,
    should_stop: Callable[[], bool],
) -> ChildScores:
    """Builds, trains and judges one child from scratch; it shares nothing with any other.

    Args:
        cost: of its final network; is part of the scores.
        on_epoch: see `nascore.training.loop.train`; may end the training by an exception.

    Raises:
        ChildFailed: see `nascore.training.loop.train`.
        Stopped: `should_stop` said so.
    """
    start = time.perf_counter()
    seeds, objective = task.seeds, task.search.objective
    network = build_network(
        task.space, genotype, task.shape, seed=seeds.integer(arm, "weights", number)
    )
    network = network.to(device_of(task.training))
    training = train(
        network,
        task.splits.train,
        task.child,
        generator=seeds.torch(arm, "batches", number),
        valid=task.splits.valid,
        on_epoch=on_epoch,
        should_stop=should_stop,
        objective=objective,
    )
    is_accuracy = objective == "accuracy"
    best = max(training.valid_score)
    return ChildScores(
        valid_accuracy=training.valid_accuracy[training.valid_score.index(best)],
        train_accuracy=max(training.train_accuracy),
        num_params=sum(parameter.numel() for parameter in network.parameters()),
        num_steps=training.num_steps,
        duration_s=time.perf_counter() - start,
        cost=cost,
        valid_score=None if is_accuracy else best,
        train_score=None if is_accuracy else max(training.train_score),
    )


class ChildTraining(Protocol):
    """How the children of a search are trained and judged; it is the same for both arms."""

    def planned_steps(self, task: SearchContext) -> int:
        """Weight updates that a child takes."""
        ...

    def steps_per_epoch(self, task: SearchContext) -> int:
        """Of them, those between two calls of `on_epoch`."""
        ...

    def uses_one_thread(self, task: SearchContext) -> bool:
        """Whether one CPU thread trains a child as fast as all."""
        ...

    def train(
        self,
        task: SearchContext,
        genotype: Genotype,
        *,
        arm: str,
        number: int,
        cost: float | None,
        on_epoch: OnEpoch,
        should_stop: Callable[[], bool],
    ) -> ChildScores:
        """As `train_child`, which see for arguments and errors."""
        ...


class ImageTraining:
    """Children that are classifiers of images, trained as `search.child` says."""

    def planned_steps(self, task: SearchContext) -> int:
        return planned_steps(task.splits.train, task.child)

    def steps_per_epoch(self, task: SearchContext) -> int:
        return task.splits.train.steps_per_epoch(task.child)

    def uses_one_thread(self, task: SearchContext) -> bool:
        return uses_one_thread(task.splits.train, task.child)

    def train(
        self,
        task: SearchContext,
        genotype: Genotype,
        *,
        arm: str,
        number: int,
        cost: float | None,
        on_epoch: OnEpoch,
        should_stop: Callable[[], bool],
    ) -> ChildScores:
        return train_child(
            task,
            genotype,
            arm=arm,
            number=number,
            cost=cost,
            on_epoch=on_epoch,
            should_stop=should_stop,
        )
