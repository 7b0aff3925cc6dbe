"""A table of operations for a search space, and what it is worth on networks it has not seen.

A space whose networks have named parts (`nascore.spaces.parts`) is measured by them, inside some
random networks; together with those that `covering` gives, they have every operation of the space,
so the table serves every architecture. Where there are no parts, operations are what a network
consists of when it is taken apart down to its sequences and layers. There are too many of them for
one table (an operation for each number of channels that may arrive): it holds those of the networks
it was made of, and those of the networks it is checked by are timed beside them, one after the
other, on inputs of their own.
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
from nascore.latency.op_profiler import Call, Profiler, Runner, circumstances
from nascore.latency.table import OperationTable, TableEntry, settings_sha256
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape, Phase, SearchSpace, SharedSpace, make_space, sample

NUM_MEASURED = 32
"""Random networks that a table is made of; more for operations that none of them has."""
_PHASE: Phase = "final"
_TRIES = 20  # for each architecture that is wanted, in a space with few different ones


@dataclass(frozen=True)
class Check:
    """What the table says of some networks, and what the clock says.

    Attributes:
        names: of the networks, readable.
        predicted_ms: the sum over the operations.
        measured: of whole networks, without a mark inside.
        disturbed: share of all runs, of the table's too, that were interrupted by other processes.
        load: processes that wanted a core, on average over the last minute, when it was over.
    """

    names: tuple[str, ...]
    predicted_ms: tuple[float, ...]
    measured: tuple[TableEntry, ...]
    disturbed: float
    load: float

    @property
    def errors(self) -> list[float]:
        """Of each prediction, relative to what was measured."""
        pairs = zip(self.predicted_ms, self.measured, strict=True)
        return [predicted / entry.ms - 1 for predicted, entry in pairs]

    @property
    def mean_absolute_error(self) -> float:
        """Relative, as a fraction."""
        return float(np.mean(np.abs(self.errors)))

    @property
    def spearman(self) -> float | None:
        """See `spearman_of`."""
        return spearman_of(self.predicted_ms, [entry.ms for entry in self.measured])

    def to_dict(self) -> dict[str, Any]:
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
    """Spearman's; None where all are predicted, or measured, to be the same."""
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
    """A table of the space's final networks, and its check on others of them.

    Args:
        num_checked: random architectures, all different and none of those the table is made of; a
            small space may have fewer.

    Raises:
        InputError: the device is not there.
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
    made_for = circumstances(space.identifier, settings_sha256(section), _PHASE, shape, profiler)
    table = profiler.table(timings, made_for)
    names = [space.describe(genotype) for genotype in genotypes[num_measured:]]
    return table, held_against(table, names, timed, timings.whole, timings.disturbed)


def held_against(
    table: OperationTable,
    names: Sequence[str],
    runners: Sequence[Runner],
    measured: Sequence[TableEntry],
    disturbed: float,
) -> Check:
    return Check(
        names=tuple(names),
        predicted_ms=tuple(table.predict(runner.keys) for runner in runners),
        measured=tuple(measured),
        disturbed=disturbed,
        load=os.getloadavg()[0],
    )


# --- the networks of a space ----------------------------------------------------------------


class _Shared:
    """Networks that are assembled from the same parts."""

    def __init__(self, space: SharedSpace, shape: ImageShape) -> None:
        self.parts: dict[str, nn.Module] = {}
        self._space, self._shape = space, shape
        for genotype in space.covering():
            self.network(genotype)

    def network(self, genotype: Genotype) -> nn.Module:
        def part(name: str, make: Any) -> nn.Module:
            if name not in self.parts:
                self.parts[name] = make()
            return self.parts[name]

        return self._space.assemble(genotype, self._shape, part, _PHASE).eval()

    def covering(self) -> Iterator[nn.Module]:
        return (self.network(genotype) for genotype in self._space.covering())


class _Separate:
    """Networks of their own, and what they consist of."""

    def __init__(
        self, space: SearchSpace, shape: ImageShape, genotypes: Sequence[Genotype]
    ) -> None:
        self._networks = {one: space.build(one, shape, _PHASE).eval() for one in genotypes}
        modules = [unit for network in self._networks.values() for unit in units(network)]
        self.parts = {str(i): module for i, module in enumerate(modules)}

    def network(self, genotype: Genotype) -> nn.Module:
        return self._networks[genotype]

    def covering(self) -> Iterator[nn.Module]:
        return iter(())


def units(network: nn.Module) -> Iterator[nn.Module]:
    """A network taken apart, down to sequences and layers."""
    for module in network.children():
        if isinstance(module, nn.Sequential) or next(module.children(), None) is None:
            yield module
        else:
            yield from units(module)


def _further(
    profiler: Profiler, networks: _Shared | _Separate, measured: Sequence[Runner]
) -> list[Runner]:
    """Networks that have operations which none has so far."""
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
    """Random architectures whose networks differ; what was found of them where there are few."""
    found: dict[str, Genotype] = {}
    for _ in range(_TRIES * number):
        genotype = sample(space, rng)
        found.setdefault(space.canonical(genotype), genotype)
        if len(found) == number:
            break
    return list(found.values())
