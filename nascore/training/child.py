"""Training of one child of a search from scratch, and the cost of its final network."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from nascore.config import CostConfig, LatencyConfig, TrainingConfig
from nascore.context import SearchContext, device_of
from nascore.data.batches import Split
from nascore.genotype import Genotype
from nascore.latency import benchmark
from nascore.results import ChildScores
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.spaces.flops import count
from nascore.training import distributed
from nascore.training.length import cost_in_updates, for_cost
from nascore.training.loop import OnEpoch, planned_steps, train, uses_one_thread

CHILD = "child"
"""Name of the training of a child among those that processes do together."""
_LATENCY_RUNS = 30  # of an untrained network, per child; the final model is measured with care


@dataclass(frozen=True, slots=True)
class ChildJob:
    """One child to train.

    Attributes:
        arm: `method` or `control`; names the random streams.
        cost: of its final network, for the scores.
        on_epoch: called after each epoch; may end the training by an exception.
        should_stop: polled before each weight update.
    """

    genotype: Genotype
    arm: str
    number: int
    cost: float | None
    on_epoch: OnEpoch
    should_stop: Callable[[], bool]

    def announcement(self) -> dict[str, Any]:
        """Return what other processes need to train it together with this one, as JSON."""
        return {
            "what": CHILD,
            "genotype": self.genotype.to_dict(),
            "arm": self.arm,
            "number": self.number,
        }

    @classmethod
    def announced(cls, announcement: Mapping[str, Any]) -> "ChildJob":
        """Return a child that another process has announced, which also decides when it ends."""
        return cls(
            genotype=Genotype.from_dict(announcement["genotype"]),
            arm=announcement["arm"],
            number=announcement["number"],
            cost=None,
            on_epoch=lambda epoch, score: None,
            should_stop=lambda: False,
        )

    def build(self, context: SearchContext) -> torch.nn.Module:
        """Return its network of the search phase, with initial weights."""
        seed = context.seeds.integer(self.arm, "weights", self.number)
        return build_network(context.space, self.genotype, context.shape, seed=seed)


class ChildTraining(Protocol):
    """Training and evaluation of children, the same for both arms of a search."""

    def planned_steps(self, context: SearchContext) -> int:
        """Return the weight updates of one child."""
        ...

    def steps_per_epoch(self, context: SearchContext) -> int:
        """Return the weight updates between two calls of `on_epoch`."""
        ...

    def uses_one_thread(self, context: SearchContext) -> bool:
        """Return whether one CPU thread trains a child as fast as all threads."""
        ...

    def train(self, context: SearchContext, job: ChildJob) -> ChildScores:
        """Build, train and evaluate a child from scratch; it shares nothing with other children.

        Raises:
            ChildFailedError: see `nascore.training.loop.train`.
            TrainingStopped: `job.should_stop` returned true.
        """
        ...


class ImageTraining:
    """Children that classify images, trained as `search.child` says.

    Where a space is trained for equal computation, steps and epochs are those of a network whose
    updates cost as much as those of its standard network, also for `on_epoch`: pruners compare
    children after equal computation.
    """

    def planned_steps(self, context: SearchContext) -> int:
        return planned_steps(context.splits.train, context.child)

    def steps_per_epoch(self, context: SearchContext) -> int:
        return context.splits.train.steps_per_epoch(context.child)

    def uses_one_thread(self, context: SearchContext) -> bool:
        return uses_one_thread(context.splits.train, context.child)

    def train(self, context: SearchContext, job: ChildJob) -> ChildScores:
        objective = context.search.objective
        if distributed.is_first():
            distributed.send(job.announcement())
        network = job.build(context).to(device_of(context.training))
        cost = cost_in_updates(context.space, job.genotype, context.shape)
        split, config = context.splits.train, for_cost(context.child, context.splits.train, cost)
        training = train(
            network,
            split,
            config,
            generator=context.seeds.torch(job.arm, "batches", job.number),
            valid=context.splits.valid,
            on_epoch=_EpochsOfCost(
                job.on_epoch, split, cost=cost, own=config, config=context.child
            ),
            should_stop=job.should_stop,
            objective=objective,
        )
        is_accuracy = objective == "accuracy"
        best = max(training.valid_score)
        return ChildScores(
            valid_accuracy=training.valid_accuracy[training.valid_score.index(best)],
            train_accuracy=max(training.train_accuracy),
            num_params=sum(parameter.numel() for parameter in network.parameters()),
            cost=job.cost,
            valid_score=None if is_accuracy else best,
            train_score=None if is_accuracy else max(training.train_score),
        )


class _EpochsOfCost:
    """Calls `on_epoch` with epochs of the settings, during a training whose updates cost `cost`.

    Args:
        own: settings of the training.
        config: settings of a training with updates of cost 1.
    """

    def __init__(
        self,
        on_epoch: OnEpoch,
        split: Split,
        *,
        cost: float,
        own: TrainingConfig,
        config: TrainingConfig,
    ) -> None:
        self._on_epoch, self._cost = on_epoch, cost
        self._last = _num_epochs(split, own)
        self._num_epochs = _num_epochs(split, config)
        self._num_reported = 0

    def __call__(self, epoch: int, score: float | None) -> None:
        is_last = epoch + 1 == self._last
        num_epochs = self._num_epochs if is_last else int((epoch + 1) * self._cost)
        if num_epochs > self._num_reported:
            self._num_reported = num_epochs
            self._on_epoch(num_epochs - 1, score)


def _num_epochs(split: Split, config: TrainingConfig) -> int:
    return math.ceil(planned_steps(split, config) / split.steps_per_epoch(config))


def build_network(
    space: SearchSpace, genotype: Genotype, shape: ImageShape, *, seed: int, final: bool = False
) -> torch.nn.Module:
    """Return a network with initial weights that depend on `seed` alone.

    The global random generator of torch is left as it is.

    Args:
        shape: of the images and classes.
        final: the network of the final training; else the smaller one of the search.
    """
    with seeded_weights(seed):
        return space.build(genotype, shape, "final" if final else "search")


def cost_of(context: SearchContext, genotype: Genotype, config: CostConfig) -> float:
    """Return parameters, multiply-adds or milliseconds of the untrained *final* network."""
    network = build_network(context.space, genotype, context.shape, seed=0, final=True)
    if config.metric == "latency_ms":
        protocol = LatencyConfig(device=context.training.device, runs=_LATENCY_RUNS)
        return benchmark.measure(network, context.shape, protocol).p50_ms
    return float(getattr(count(network, context.shape), config.metric))
