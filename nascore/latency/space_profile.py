"""Latency table of a search space, and its error on networks that it was not made of.

A space whose networks have named parts (`nascore.spaces.parts`) is measured by them, inside random
networks; together with those of `covering` they have every operation of the space, so the table
holds for every architecture. Without parts, operations are the sequences and layers of a network.
These are too many for one table (an operation for each number of input channels): the table has
those of the networks that it was made of, and those of the networks that it is checked with are
timed in the same rounds, one after the other, on inputs of their own.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from nascore.config import LatencyConfig, SpaceSection
from nascore.genotype import Genotype
from nascore.latency.op_profiler import Call, Profiler, Runner
from nascore.latency.operations import units
from nascore.latency.table import OperationTable, TableEntry, settings_sha256
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape, Phase, SearchSpace, SharedSpace, make_space, sample

NUM_MEASURED = 32
"""Random networks that a table is made of; others are added for operations that these lack."""
_PHASE: Phase = "final"
_TRIES = 20  # draws for each architecture, in a space with few different ones


@dataclass(frozen=True)
class Check:
    """Predictions of a table for some networks, and their measured times.

    Attributes:
        names: descriptions of the networks.
        predicted_ms: sums over the operations.
        measured: times of whole networks, without marks.
        disturbed: fraction of all runs, of the table's too, that other processes interrupted.
        load: load average of the last minute at the end of the measurement.
    """

    names: tuple[str, ...]
    predicted_ms: tuple[float, ...]
    measured: tuple[TableEntry, ...]
    disturbed: float
    load: float

    @property
    def errors(self) -> list[float]:
        """Return the error of each prediction, relative to the measured time."""
        pairs = zip(self.predicted_ms, self.measured, strict=True)
        return [predicted / entry.ms - 1 for predicted, entry in pairs]

    @property
    def mean_absolute_error(self) -> float:
        """Return the mean relative error as a fraction."""
        return float(np.mean(np.abs(self.errors)))

    @property
    def spearman(self) -> float | None:
        """Return `spearman_of` predictions and times."""
        return spearman_of(self.predicted_ms, [entry.ms for entry in self.measured])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return {
            "spearman": self.spearman,
            "mean_absolute_error": self.mean_absolute_error,
            "mean_error": float(np.mean(self.errors)),
            "largest_error": float(np.max(np.abs(self.errors))),
            "disturbed": self.disturbed,
            "load": self.load,
            "networks": [
                {"name": name, "predicted_ms": predicted_ms, "measured": asdict(entry)}
                for name, predicted_ms, entry in zip(
                    self.names, self.predicted_ms, self.measured, strict=True
                )
            ],
        }


def spearman_of(
    predicted: Sequence[float] | NDArray[np.float64],
    measured: Sequence[float] | NDArray[np.float64],
) -> float | None:
    """Return Spearman's rank correlation; None where all values of one side are equal."""
    if not (np.ptp(predicted) > 0 and np.ptp(measured) > 0):
        return None
    return float(stats.spearmanr(predicted, measured).statistic)


def profile_space(
    section: SpaceSection,
    shape: ImageShape,
    config: LatencyConfig,
    *,
    num_checked: int,
    seed: int = 0,
) -> tuple[OperationTable, Check]:
    """Return the table of a space's final networks, and its check on other networks.

    Args:
        section: settings of the space.
        shape: shape of the images.
        config: settings of the measurement.
        num_checked: random architectures for the check, all different and none of those the table
            is made of; a small space may have fewer.
        seed: of the architectures, the weights and the order of runs.

    Raises:
        ResourceUnavailable: `latency.device` is cuda and there is none.
    """
    space, rng = make_space(section), np.random.default_rng(seed)
    genotypes = _different(space, NUM_MEASURED + num_checked, rng)
    num_measured = NUM_MEASURED
    if len(genotypes) < NUM_MEASURED + num_checked:  # a small space
        num_measured = max(len(genotypes) // 2, len(genotypes) - num_checked)
    with seeded_weights(seed):
        networks: _Shared | _Separate
        if hasattr(space, "assemble"):
            networks = _Shared(cast(SharedSpace, space), shape)
        else:
            networks = _Separate(space, shape, genotypes)
    profiler = Profiler(networks.parts, shape, config)
    inputs: dict[str, tuple[nn.Module, Tensor]] = {}
    runners = [profiler.runner(networks.network(genotype), inputs) for genotype in genotypes]
    measured, timed = runners[:num_measured], runners[num_measured:]
    measured += _further(profiler, networks, measured)
    known = {key for runner in measured for key in runner.keys}
    left = [inputs[key] for key in sorted({k for one in timed for k in one.keys} - known)]
    if left:
        measured.append(profiler.runner(_one_by_one(left)))
    timings = profiler.run(measured, timed, rng=rng)
    made_for = profiler.conditions(
        space.identifier, settings_sha256(section), phase=_PHASE, shape=shape
    )
    table = profiler.table(timings, made_for)
    names = [space.describe(genotype) for genotype in genotypes[num_measured:]]
    return table, check_table(table, names, timed, timings.whole, timings.disturbed)


def check_table(
    table: OperationTable,
    names: Sequence[str],
    runners: Sequence[Runner],
    measured: Sequence[TableEntry],
    disturbed: float,
) -> Check:
    """Compare the predictions of a table with measured times.

    Args:
        table: its entries include all operations of the runners.
        names: descriptions of the networks.
        runners: the networks.
        measured: their times without marks.
        disturbed: fraction of all runs that were interrupted.
    """
    return Check(
        names=tuple(names),
        predicted_ms=tuple(table.predict(runner.keys) for runner in runners),
        measured=tuple(measured),
        disturbed=disturbed,
        load=os.getloadavg()[0],
    )


# --- the networks of a space ----------------------------------------------------------------


class _Shared:
    """Networks that are assembled from shared parts."""

    def __init__(self, space: SharedSpace, shape: ImageShape) -> None:
        self.parts: dict[str, nn.Module] = {}
        self._space, self._shape = space, shape
        for genotype in space.covering():
            self.network(genotype)

    def network(self, genotype: Genotype) -> nn.Module:
        """Return the network of a genotype."""

        def part(name: str, make: Any) -> nn.Module:
            if name not in self.parts:
                self.parts[name] = make()
            return self.parts[name]

        return self._space.assemble(genotype, self._shape, part, _PHASE).eval()

    def covering(self) -> Iterator[nn.Module]:
        """Return networks that have every operation of the space."""
        return (self.network(genotype) for genotype in self._space.covering())


class _Separate:
    """Networks that share nothing, and their operations."""

    def __init__(
        self, space: SearchSpace, shape: ImageShape, genotypes: Sequence[Genotype]
    ) -> None:
        self._networks = {one: space.build(one, shape, _PHASE).eval() for one in genotypes}
        modules = [unit for network in self._networks.values() for unit in units(network)]
        self.parts = {str(i): module for i, module in enumerate(modules)}

    def network(self, genotype: Genotype) -> nn.Module:
        """Return the network of a genotype."""
        return self._networks[genotype]

    def covering(self) -> Iterator[nn.Module]:
        """Return no networks: operations cannot be listed without architectures."""
        return iter(())


def _further(
    profiler: Profiler, networks: _Shared | _Separate, measured: Sequence[Runner]
) -> list[Runner]:
    """Return networks that add operations to those of the measured ones."""
    known = {key for runner in measured for key in runner.keys}
    found = []
    for network in networks.covering():
        runner = profiler.runner(network)
        if not known.issuperset(runner.keys):
            known.update(runner.keys)
            found.append(runner)
    return found


def _one_by_one(operations: Sequence[tuple[nn.Module, Tensor]]) -> Call:
    def call(x_BCHW: Tensor) -> None:
        for module, own_BCHW in operations:
            module(own_BCHW)

    return call


def _different(space: SearchSpace, number: int, rng: np.random.Generator) -> list[Genotype]:
    """Return random architectures whose networks differ; fewer where the space has few."""
    found: dict[str, Genotype] = {}
    for _ in range(_TRIES * number):
        genotype = sample(space, rng)
        found.setdefault(space.canonical(genotype), genotype)
        if len(found) == number:
            break
    return list(found.values())
