"""Methods on a table: many seeds, all cores, the same result however the work is divided.

One seed of one method is one search: it asks for an architecture, is told what the table says, and
goes on until it has asked for as many *different* architectures as it may. An architecture that was
asked before is told again and costs nothing. One that the table does not hold is told as a failed
child and costs nothing either, since the table cannot say what it would have been worth; how much
of the space a table holds is in the result.
"""

import dataclasses
import math
import multiprocessing
import multiprocessing.process
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nascore.config import Section
from nascore.errors import InputError, Problem
from nascore.evaluation.verdict import compare
from nascore.genotype import Genotype
from nascore.methods.base import ProposingModule
from nascore.methods.baselines.method import RandomSearch
from nascore.methods.registry import METHODS
from nascore.results import Child
from nascore.search.proposer import Proposer
from nascore.seeding import Seeds
from nascore.tabular_benchmark.table import Table
from nascore.training.threads import one_thread

STREAM = "bench"  # the same for all methods: equal seeds start from equal random numbers
_CONTROL_STREAM = "bench control"
_PROPOSALS_PER_QUERY = 20  # then a seed has run dry: its method keeps coming back to what it knows
_LOWEST_COVERAGE = 0.01  # below it, more proposals do not make a table worth searching
_SEEDS_AT_ONCE = 2  # that a process takes; small, since whoever stops the bench waits for them

Progress = Callable[[str, int], None]
"""Called with a label and how many more of its seeds are done."""


@dataclass(frozen=True, slots=True)
class MethodSettings:
    """A method with its settings, under the name it has in the result."""

    label: str
    method: str
    options: Section


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What is replayed.

    Attributes:
        queries: different architectures that a search may ask for.
        seeds: root seeds; every entry runs all of them, so that results are paired.
        with_verdicts: also judge every search as `nas run` would, against a random search of as
            many queries that shares no random number with it.
    """

    table: Table
    entries: tuple[MethodSettings, ...]
    queries: int
    seeds: range
    with_verdicts: bool = False


@dataclass(frozen=True, slots=True)
class Replay:
    """One seed of one entry.

    Attributes:
        curve: report metric of the best by search metric after each query, shape (queries,); a
            search that has run dry keeps its last value.
        num_queries: different architectures asked for.
        num_proposals: architectures asked for, repetitions and missing ones included.
        seconds: wall time of `suggest` and `update`, all proposals together.
        searched: search metric of each architecture asked for, as a method is told it.
        verdict: outcome of `nascore.evaluation.verdict.compare`; None unless the plan asks for it.
    """

    curve: NDArray[np.float64]
    num_queries: int
    num_proposals: int
    seconds: float
    searched: tuple[float, ...] = ()
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """All seeds of one entry, in the order of the seeds.

    Attributes:
        prepare_s: wall seconds of what the method learned before the first search, once for all.
    """

    entry: MethodSettings
    replays: tuple[Replay, ...]
    prepare_s: float

    @property
    def curves(self) -> NDArray[np.float64]:
        """Shape (seeds, queries)."""
        return np.stack([replay.curve for replay in self.replays])


def check(plan: ReplayPlan) -> list[Problem]:
    """What is wrong with a plan whose table and options are each right."""
    problems = []
    if not 1 <= plan.queries <= len(plan.table.rows):
        problems.append(
            Problem(
                "--queries",
                str(plan.queries),
                f"must be 1 to {len(plan.table.rows)}, the architectures in the table",
            )
        )
    for entry in plan.entries:
        if METHODS[entry.method].load_proposing() is None:
            problems.append(
                Problem(
                    "--methods",
                    entry.method,
                    "trains one network for all architectures and proposes none, so a table says "
                    "nothing about it; leave it out",
                )
            )
    return problems


def run(
    plan: ReplayPlan, *, jobs: int, progress: Progress = lambda label, done: None
) -> list[Outcome]:
    """Replays all entries; `jobs` processes of one thread each, none beside this one when 1.

    Raises:
        InputError: see `check`; or the table holds so little of the space that a search has found
            none of its architectures.
    """
    problems = check(plan)
    if problems:
        raise InputError(problems)
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as folder:
        controllers = [Path(folder) / str(i) for i in range(len(plan.entries))]
        outcomes = (
            _run_here(plan, controllers, progress)
            if jobs == 1
            else _run_in_processes(plan, controllers, jobs, progress)
        )
    problems = [
        Problem(
            "--table",
            plan.table.name,
            f"{outcome.entry.label} has found none of its architectures in "
            f"{max_proposals(plan)} proposals; the table holds {plan.table.coverage:.2%} of the "
            "space, add rows",
        )
        for outcome in outcomes
        if any(replay.num_queries == 0 for replay in outcome.replays)
    ]
    if problems:
        raise InputError(problems)
    return outcomes


# --- one search -----------------------------------------------------------------------------


def replay(proposer: Proposer, table: Table, *, queries: int, max_proposals: int) -> Replay:
    """One search on a table, until `queries` different architectures are known."""
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


def max_proposals(plan: ReplayPlan) -> int:
    coverage = max(_LOWEST_COVERAGE, plan.table.coverage)
    return math.ceil(_PROPOSALS_PER_QUERY * plan.queries / coverage)


# --- all of them ----------------------------------------------------------------------------


def _module(entry: MethodSettings) -> ProposingModule:
    module = METHODS[entry.method].load_proposing()
    assert module is not None, "check() has refused it"
    return module


def _prepare(plan: ReplayPlan, controllers: Sequence[Path], index: int) -> float:
    """Fills the entry's folder, once for all its seeds; returns the wall seconds."""
    start = time.perf_counter()
    entry = plan.entries[index]
    controllers[index].mkdir()
    seeds = Seeds(plan.seeds.start)
    _module(entry).prepare_proposer(entry.options, plan.table.space, seeds, controllers[index])
    return time.perf_counter() - start


def _replay_seeds(
    plan: ReplayPlan, controllers: Sequence[Path], index: int, seeds: range
) -> Iterator[Replay]:
    entry = plan.entries[index]
    limits = {"queries": plan.queries, "max_proposals": max_proposals(plan)}
    for seed in seeds:
        proposer = _module(entry).make_proposer(
            entry.options, plan.table.space, Seeds(seed), STREAM, controller=controllers[index]
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


def _run_here(plan: ReplayPlan, controllers: Sequence[Path], progress: Progress) -> list[Outcome]:
    outcomes = []
    with one_thread():
        for index, entry in enumerate(plan.entries):
            prepare_s = _prepare(plan, controllers, index)
            replays = []
            for one in _replay_seeds(plan, controllers, index, plan.seeds):
                replays.append(one)
                progress(entry.label, 1)
            outcomes.append(Outcome(entry, tuple(replays), prepare_s))
    return outcomes


def _run_in_processes(
    plan: ReplayPlan, controllers: Sequence[Path], jobs: int, progress: Progress
) -> list[Outcome]:
    # A server that has loaded torch and has no threads yet forks in milliseconds, and its children
    # share its memory; forking this process, whose threads may hold locks, could hang.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    indices = range(len(plan.entries))
    blocks = [
        plan.seeds[start : start + _SEEDS_AT_ONCE]
        for start in range(0, len(plan.seeds), _SEEDS_AT_ONCE)
    ]
    pool = ProcessPoolExecutor(
        jobs, context, initializer=_start_worker, initargs=(plan, list(controllers))
    )
    try:
        prepare_s = list(pool.map(_prepare_in_worker, indices))
        futures = {
            pool.submit(_replay_in_worker, index, block): (index, block)
            for block in blocks
            for index in indices
        }
        for future in as_completed(futures):
            index, block = futures[future]
            future.result()
            progress(plan.entries[index].label, len(block))
        found = {place: future.result() for future, place in futures.items()}
    finally:
        pool.shutdown(cancel_futures=True)
    return [
        Outcome(
            entry,
            tuple(one for block in blocks for one in found[index, block]),
            prepare_s[index],
        )
        for index, entry in enumerate(plan.entries)
    ]


_work: tuple[ReplayPlan, list[Path]] | None = (
    None  # of a worker process, sent once and not per block
)


def _start_worker(plan: ReplayPlan, controllers: list[Path]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gave the work
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    _work = plan, controllers


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent.join()
    os._exit(1)


def _prepare_in_worker(index: int) -> float:
    assert _work is not None
    return _prepare(*_work, index)


def _replay_in_worker(index: int, seeds: range) -> list[Replay]:
    assert _work is not None
    return list(_replay_seeds(*_work, index, seeds))
