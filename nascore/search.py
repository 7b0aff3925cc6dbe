"""The loop of every method that proposes architectures to be trained one by one.

A proposer sees only genotypes and results. Its state follows from the history alone, so a search
that died goes on from its study as if nothing had happened.
"""

import dataclasses
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from types import MappingProxyType
from typing import Protocol

import torch

from nascore.budget import Budget
from nascore.counting import count
from nascore.data.batches import Splits
from nascore.errors import ChildFailed
from nascore.genotype import Genotype
from nascore.results import Arm, Child, ChildScores, SearchResult, best_child
from nascore.seeding import Seeds
from nascore.spaces import ImageShape, SearchSpace
from nascore.study import Study, failed, finished
from nascore.task import Task, device_of
from nascore.training import Stopped, planned_steps, train, uses_one_thread
from nascore.verdict import compare

Pending = Mapping[int, Genotype]
NONE_PENDING: Pending = MappingProxyType({})


class Proposer(Protocol):
    """What a proposing method is. Call order: `update` for every ended child, then `suggest`.

    All randomness derives from the seed, the child's number and the updates so far: a proposer that
    is given the history of another proposes what the other would have.
    """

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        """The architecture of child `number`, counted from 0.

        Args:
            pending: children that other workers are training now, by number.
        """
        ...

    def update(self, child: Child) -> None:
        """Learns from an ended child; `child.scores` is None when it failed."""
        ...


# Both arms may build a network at once, and initial weights come from torch's global generator.
_GLOBAL_GENERATOR = threading.Lock()


class SearchFailed(Exception):
    """No child finished, so there is no architecture to return."""


def build_network(
    space: SearchSpace, genotype: Genotype, shape: ImageShape, *, seed: int, final: bool = False
) -> torch.nn.Module:
    """A network with initial weights that depend on `seed` alone; the global generator is kept."""
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build(genotype, shape, "final" if final else "search")


def train_child(
    task: Task,
    genotype: Genotype,
    *,
    arm: str,
    number: int,
    splits: Splits,
    should_stop: Callable[[], bool],
) -> ChildScores:
    """Builds, trains and judges one child from scratch; it shares nothing with any other.

    Raises:
        ChildFailed: see `nascore.training.train`.
        Stopped: `should_stop` said so.
    """
    start = time.perf_counter()
    seeds = task.seeds
    network = build_network(
        task.space, genotype, task.shape, seed=seeds.integer(arm, "weights", number)
    )
    network = network.to(device_of(task.search.child))
    training = train(
        network,
        splits.train,
        task.search.child,
        generator=seeds.torch(arm, "batches", number),
        valid=splits.valid,
        should_stop=should_stop,
    )
    return ChildScores(
        valid_accuracy=max(training.valid_accuracy),
        train_accuracy=max(training.train_accuracy),
        num_params=sum(parameter.numel() for parameter in network.parameters()),
        num_steps=training.num_steps,
        duration_s=time.perf_counter() - start,
    )


def run_arm(
    task: Task,
    arm: str,
    proposer: Proposer,
    *,
    study: Study,
    budget: Budget,
    charged_s: float = 0.0,
) -> Arm:
    """Proposes, trains and records children until the budget is spent.

    Args:
        arm: `method` or `control`; names every random stream.
        study: keeps the children; those of earlier processes are taken over.
        charged_s: seconds that the arm has cost beside its children (its coder, say).
    """
    start = time.perf_counter()
    children = study.children()
    budget.resume(children)
    for child in children:
        proposer.update(child)
    before_s = charged_s + sum(child.scores.duration_s for child in children if child.scores)

    child_steps = planned_steps(task.splits.train, task.search.child)
    while not task.should_stop() and budget.allows(children, child_steps=child_steps):
        number = study.start()
        genotype = proposer.suggest(number)
        started_s = study.propose(number, genotype)
        try:
            scores = train_child(
                task,
                genotype,
                arm=arm,
                number=number,
                splits=task.splits,
                should_stop=lambda: task.should_stop() or budget.is_overrun,
            )
            child = finished(number, genotype, scores, started_s)
        except ChildFailed as error:
            child = failed(number, genotype, str(error), started_s)
        except Stopped:
            break  # its trial stays open, and is trained again when the search goes on
        study.finish(child)
        proposer.update(child)
        children.append(child)
        task.on_child(arm, child)
        _report(task, arm, children)
    return Arm(study.method, tuple(children), before_s + time.perf_counter() - start)


def search_by_proposing(
    task: Task, proposer: Proposer, control: Proposer | None, *, charged_s: float = 0.0
) -> SearchResult:
    """The method's arm beside its control at equal cost, and the verdict.

    Both arms have the same budget, in the same unit. With one of time, `charged_s` (what the method
    spent before its first child) is part of the method's. Arms whose trainings use one thread each
    run at the same time where there are cores for both, else one after the other.

    Raises:
        SearchFailed: not a single child of the method finished.
    """
    # Opened here, one after the other: making the tables of a new file is not for two at once.
    study = Study(_study_url(task), "method", _identity(task, task.method))
    control_study = Study(_study_url(task), "control", _identity(task, "random"))
    charge = charged_s if task.search.budget.unit in ("seconds", "gpu_hours") else 0.0

    def run_method() -> Arm:
        budget = Budget(task.search.budget, charged_s=charge)
        return run_arm(task, "method", proposer, study=study, budget=budget, charged_s=charged_s)

    def run_control() -> Arm | None:
        if control is None:
            return None
        budget = Budget(task.search.budget)
        return run_arm(task, "control", control, study=control_study, budget=budget)

    if uses_one_thread(task.splits.train, task.search.child) and (os.cpu_count() or 1) > 1:
        arm, other = _side_by_side(run_method, run_control)
    else:
        arm, other = run_method(), run_control()
    best = best_child(arm.children)
    if best is None or best.scores is None:
        reasons = sorted({child.failure for child in arm.children if child.failure})
        raise SearchFailed(
            f"none of {len(arm.children)} children finished: {'; '.join(reasons) or 'stopped'}"
        )
    return SearchResult(
        method=task.method,
        seed=task.seeds.seed,
        genotype=best.genotype,
        valid_accuracy=best.scores.valid_accuracy,
        arm=arm,
        control=other,
        verdict=None if other is None else _verdict(task.seeds, arm, other),
        versions=versions(),
    )


def _side_by_side(
    run_method: Callable[[], Arm], run_control: Callable[[], Arm | None]
) -> tuple[Arm, Arm | None]:
    """Both arms at once, each on one thread from its beginning: part of torch's setting is global,
    and an arm must not change the other's in the middle of a sum."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            first, second = pool.submit(run_method), pool.submit(run_control)
            return first.result(), second.result()
    finally:
        torch.set_num_threads(threads)


def versions() -> dict[str, str]:
    """What a result depends on beside its configuration."""
    return {
        "nas-pipelines": version("nas-pipelines"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _verdict(seeds: Seeds, arm: Arm, control: Arm) -> dict[str, object]:
    scores, others = ([child.valid_accuracy for child in one.children] for one in (arm, control))
    return compare(scores, others, rng=seeds.numpy("verdict"), name=arm.method).to_dict()


def _study_url(task: Task) -> str:
    return f"sqlite:///{task.state / 'study.db'}"


def _identity(task: Task, method: str) -> dict[str, object]:
    return {
        "method": method,
        "space": task.space.identifier,
        "seed": task.seeds.seed,
        "data": task.splits.info.data_sha256,
        "child": task.search.child.model_dump(mode="json", exclude={"device"}),
        "options": task.options.model_dump(mode="json") if method == task.method else {},
    }


def _report(task: Task, arm: str, children: list[Child]) -> None:
    last, best = children[-1], best_child(children)
    if last.scores is None or best is None or best.scores is None:
        return
    scores = dataclasses.asdict(last.scores)
    metrics = {f"search/{arm}/{name}": float(value) for name, value in scores.items()}
    metrics[f"search/{arm}/best_valid_accuracy"] = best.scores.valid_accuracy
    task.report(metrics, last.number)


def cost_of(space: SearchSpace, genotype: Genotype, shape: ImageShape) -> tuple[int, int]:
    """Parameters and MACs of the final network of a genotype."""
    cost = count(build_network(space, genotype, shape, seed=0, final=True), shape)
    return cost.num_params, cost.macs
