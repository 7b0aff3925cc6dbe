"""Runs a benchmark: all seeds of all entries, with equal results for any number of processes."""

import multiprocessing
import multiprocessing.process
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from nascore.errors import InputError, Problem
from nascore.methods.registry import METHODS
from nascore.tabular_benchmark.replay import (
    Outcome,
    Replay,
    ReplayPlan,
    max_proposals,
    prepare,
    replay_seeds,
)
from nascore.threads import thread_limit

_SEEDS_AT_ONCE = 2  # in one job of a process; few, since an interrupted benchmark waits for them

Progress = Callable[[str, int], None]
"""Called with a label and the number of its seeds that were completed."""


def check(plan: ReplayPlan) -> list[Problem]:
    """Return the errors of a plan whose table and options are valid by themselves."""
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
                    "trains one network for all architectures and proposes none, so it cannot be "
                    "replayed on a table; leave it out",
                )
            )
    return problems


def run(
    plan: ReplayPlan, *, jobs: int, progress: Progress = lambda label, done: None
) -> list[Outcome]:
    """Run all entries.

    Args:
        plan: table, entries, queries and seeds.
        jobs: processes of one thread each; with 1 all runs in this process.
        progress: see `Progress`.

    Returns:
        The results, in the order of the entries.

    Raises:
        InputError: see `check`; or a search has requested no architecture that the table holds.
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


def _run_here(plan: ReplayPlan, controllers: Sequence[Path], progress: Progress) -> list[Outcome]:
    outcomes = []
    with thread_limit(1):
        for entry, controller in zip(plan.entries, controllers, strict=True):
            prepare_s = prepare(plan, entry, controller)
            replays = []
            for one in replay_seeds(plan, entry, controller, plan.seeds):
                replays.append(one)
                progress(entry.label, 1)
            outcomes.append(Outcome(entry, tuple(replays), prepare_s))
    return outcomes


def _run_in_processes(
    plan: ReplayPlan, controllers: Sequence[Path], jobs: int, progress: Progress
) -> list[Outcome]:
    # A server that has loaded torch and has no threads forks in milliseconds, and its children
    # share its memory; a fork of this process, whose threads may hold locks, could hang.
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


# Of a worker process, which receives it once instead of with each job.
_work: tuple[ReplayPlan, list[Path]] | None = None


def _start_worker(plan: ReplayPlan, controllers: list[Path]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    _work = plan, controllers


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process with its parent: it would wait for jobs forever."""
    parent.join()
    os._exit(1)


def _prepare_in_worker(index: int) -> float:
    assert _work is not None
    plan, controllers = _work
    return prepare(plan, plan.entries[index], controllers[index])


def _replay_in_worker(index: int, seeds: range) -> list[Replay]:
    assert _work is not None
    plan, controllers = _work
    return list(replay_seeds(plan, plan.entries[index], controllers[index], seeds))
