"""Replay of searches on a table: one seed of one method.

A search proposes an architecture, receives its score from the table, and continues until it has
requested as many *different* architectures as planned. A repeated request returns the known score
at no cost. An architecture that the table does not hold is a failed child at no cost, since its
score is unknown; the result includes the share of the space that a table holds.
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nascore.config import Section
from nascore.evaluation.verdict import compare
from nascore.genotype import Genotype
from nascore.methods.base import ProposingModule
from nascore.methods.registry import METHODS
from nascore.results import Child
from nascore.search.proposer import Proposer
from nascore.search.random_search import RandomSearch
from nascore.seeding import Seeds
from nascore.tabular_benchmark.table import Table

STREAM = "bench"  # of all methods: with equal seeds they start from equal random numbers
_CONTROL_STREAM = "bench control"
_PROPOSALS_PER_QUERY = 20  # at most: a search that keeps repeating architectures ends then
_LOWEST_COVERAGE = 0.01  # below it, the number of proposals does not grow any further


@dataclass(frozen=True, slots=True)
class MethodSettings:
    """A method with its settings, and its label in the result."""

    label: str
    method: str
    options: Section


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The searches of a benchmark.

    Attributes:
        queries: different architectures that a search may request.
        seeds: root seeds; all entries run all of them, so that results are paired.
        with_verdicts: whether to compare each search, as `nas run` does, with a random search of as
            many queries and independent random numbers.
    """

    table: Table
    entries: tuple[MethodSettings, ...]
    queries: int
    seeds: range
    with_verdicts: bool = False


@dataclass(frozen=True, slots=True)
class Replay:
    """Result of one seed of one entry.

    Attributes:
        curve: report metric of the best by search metric after each query, shape (queries,); a
            search that ended early keeps its last value.
        num_queries: different architectures requested.
        num_proposals: all requests, repeated and missing architectures included.
        seconds: wall time of `suggest` and `update`, all proposals together.
        searched: search metric of each requested architecture, in the scale of the method.
        verdict: outcome of `nascore.evaluation.verdict.compare`; None without verdicts.
    """

    curve: NDArray[np.float64]
    num_queries: int
    num_proposals: int
    seconds: float
    searched: tuple[float, ...] = ()
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of all seeds of one entry, in the order of the seeds.

    Attributes:
        prepare_s: wall seconds of the training before the first search, once for all seeds.
    """

    entry: MethodSettings
    replays: tuple[Replay, ...]
    prepare_s: float

    @property
    def curves(self) -> NDArray[np.float64]:
        """Curves of all seeds, shape (seeds, queries)."""
        return np.stack([replay.curve for replay in self.replays])


def max_proposals(plan: ReplayPlan) -> int:
    """Return the number of proposals after which a search ends."""
    coverage = max(_LOWEST_COVERAGE, plan.table.coverage)
    return math.ceil(_PROPOSALS_PER_QUERY * plan.queries / coverage)


def replay(proposer: Proposer, table: Table, *, queries: int, max_proposals: int) -> Replay:
    """Run one search on a table.

    Args:
        proposer: without history.
        queries: different architectures after which it ends.
        max_proposals: proposals after which it ends.

    Returns:
        The result, without a verdict.
    """
    asked: set[tuple[int, ...]] = set()
    best, curve, searched = (-math.inf, math.nan), [], []
    number, seconds = 0, 0.0
    while len(asked) < queries and number < max_proposals:
        start = time.perf_counter()
        genotype = proposer.suggest(number)
        seconds += time.perf_counter() - start
        row = table.rows.get(genotype.tokens)
        if row is not None and genotype.tokens not in asked:
            asked.add(genotype.tokens)
            best = row if row[0] > best[0] else best  # the earliest of equals stays
            curve.append(best[1])
            searched.append(row[0] * table.scale)
        child = _child(number, genotype, row, table.scale)
        start = time.perf_counter()
        proposer.update(child)
        seconds += time.perf_counter() - start
        number += 1
    full = np.array(curve + [best[1]] * (queries - len(curve)))
    return Replay(full, len(asked), number, seconds, tuple(searched))


def _child(number: int, genotype: Genotype, row: tuple[float, float] | None, scale: float) -> Child:
    if row is None:
        return Child(
            number=number,
            genotype=genotype,
            failure="the table does not hold it",
            status="failed",
        )
    accuracy = row[0] * scale
    # Tables have no training accuracies: NASES's reward assumes that there is no gap.
    return Child(number=number, genotype=genotype, objective=accuracy, train_objective=accuracy)


def _module(entry: MethodSettings) -> ProposingModule:
    module = METHODS[entry.method].load_proposing()
    assert module is not None, "bench.check refuses other methods"
    return module


def prepare(plan: ReplayPlan, entry: MethodSettings, controller: Path) -> float:
    """Fill the folder of an entry, once for all its seeds; return the wall seconds."""
    start = time.perf_counter()
    controller.mkdir()
    seeds = Seeds(plan.seeds.start)
    _module(entry).prepare_proposer(entry.options, plan.table.space, seeds, controller)
    return time.perf_counter() - start


def replay_seeds(
    plan: ReplayPlan, entry: MethodSettings, controller: Path, seeds: range
) -> Iterator[Replay]:
    """Run the searches of some seeds of an entry, whose folder `prepare` has filled."""
    limits = {"queries": plan.queries, "max_proposals": max_proposals(plan)}
    for seed in seeds:
        proposer = _module(entry).make_proposer(
            entry.options, plan.table.space, Seeds(seed), STREAM, controller=controller
        )
        found = replay(proposer, plan.table, **limits)
        if plan.with_verdicts:
            control = replay(
                RandomSearch(plan.table.space, Seeds(seed), _CONTROL_STREAM), plan.table, **limits
            )
            rng = Seeds(seed).numpy(_CONTROL_STREAM, "verdict")
            verdict = compare(found.searched, control.searched, rng=rng).outcome
            found = dataclasses.replace(found, verdict=verdict)
        yield found
