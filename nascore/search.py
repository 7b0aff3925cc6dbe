"""The loop of every method that proposes architectures to be trained one by one.

A proposer sees only genotypes and results. Its state follows from the history alone, so a search
that died goes on from its study as if nothing had happened, and any number of workers may run this
loop on one study.
"""

import contextlib
import dataclasses
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Protocol

import torch

from nascore.arms import run_both
from nascore.budget import Budget
from nascore.child import ChildTraining, ImageTraining, cost_of
from nascore.errors import ChildFailed
from nascore.genotype import Genotype
from nascore.identity import identity, judging_of, study_name
from nascore.pruning import make_pruner
from nascore.results import Arm, Child, SearchResult, Status, best_child, pareto_front
from nascore.storage import Storage, StorageAway, resolve_url
from nascore.study import Attempt, OpenChild, Study
from nascore.task import Task
from nascore.training import Stopped
from nascore.verdict import TOP_FRACTION, compare

_WAIT_S = 0.5  # between looks at the children that other workers are training
_MOST_REJECTED = 500  # in a row; then what is left of the space is over the limit

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


class SearchFailed(Exception):
    """No child finished, so there is no architecture to return."""


@dataclass(frozen=True, slots=True)
class Control:
    """What a method is held against, at equal cost.

    Attributes:
        method: its name; must be that of the method's entry in `nascore.methods.METHODS`.
        spoken: what sentences call it.
        charged_s: seconds that it spent before its first child.
    """

    proposer: Proposer
    method: str = "random"
    spoken: str = "random search"
    charged_s: float = 0.0


class _Pruned(Exception):
    """The pruner thinks that the rest of a training would be in vain."""


class Worker:
    """Proposes, trains and records the children of one arm until its budget is spent.

    Args:
        arm: `method` or `control`; names every random stream.
        study: keeps the children, those of earlier processes and of other workers too.
        training: of a child.
        charged_s: seconds that the arm has cost beside its children (its coder, say).
        charge_budget: whether they are part of the budget.
    """

    def __init__(
        self,
        task: Task,
        arm: str,
        proposer: Proposer,
        *,
        study: Study,
        training: ChildTraining,
        charged_s: float = 0.0,
        charge_budget: bool = False,
    ) -> None:
        self._training = training
        self._task, self._arm, self._proposer, self._study = task, arm, proposer, study
        self._charged_s = charged_s
        self._budget = Budget(task.search.budget, charged_s=charged_s if charge_budget else 0.0)
        self._child_steps = training.planned_steps(task)

    def run(self) -> Arm:
        start, known = time.perf_counter(), self._study.children()
        self._budget.resume(known)
        before_s = self._budget.before_s
        self._told = {child.number for child in known}
        try:
            while not self._task.should_stop():
                self._learn()
                if self._is_dry():
                    break
                attempt = self._study.start(self._fits)
                if attempt is not None:
                    self._try(attempt)
                elif self._task.is_helper or not self._study.open_children():
                    break
                else:  # the last one out waits: a worker may die, and its child is left
                    time.sleep(_WAIT_S)
            self._learn()
        except StorageAway:
            if not self._task.should_stop():
                raise
        spent_s = self._charged_s + before_s + time.perf_counter() - start
        return Arm(self._study.method, tuple(self._study.known_children()), spent_s)

    def _fits(self, children: Sequence[Child], ahead: Sequence[OpenChild]) -> bool:
        return self._budget.fits(children, ahead, child_steps=self._child_steps)

    def _is_dry(self) -> bool:
        """Whether the proposals are over the limit only, for a long time now."""
        latest = self._study.known_children()[-_MOST_REJECTED:]
        return len(latest) == _MOST_REJECTED and all(child.is_rejected for child in latest)

    def _learn(self) -> None:
        """Takes in what has ended, this worker's children and those of others."""
        for child in self._study.news():
            self._proposer.update(_with_cost(child, self._task))
            if child.number not in self._told:
                self._told.add(child.number)
                self._task.on_child(self._arm, child)
                _report(self._task, self._arm, child, self._study.known_children())

    def _try(self, attempt: Attempt) -> None:
        """One child, from its proposal to its end."""
        pending = {
            other.number: other.genotype
            for other in self._study.open_children()
            if other.genotype is not None and other.number != attempt.number
        }
        genotype = attempt.genotype or self._proposer.suggest(attempt.number, pending)
        if not self._study.propose(attempt, genotype):
            self._study.withdraw(attempt)  # this worker was thought dead
            return
        child = Child(attempt.number, genotype, None, started_s=time.time())
        if attempt.tries > self._task.search.max_tries:
            reason = f"given up: {attempt.tries - 1} workers died while they trained it"
            self._study.finish(attempt, _ended(child, failure=reason))
            return
        try:
            child = self._judge(attempt, child)
        except Stopped:
            self._study.withdraw(attempt)  # it is tried again when the search goes on
        else:
            self._study.finish(attempt, child)

    def _judge(self, attempt: Attempt, child: Child) -> Child:
        """Trains the child, or finds out why not; raises Stopped when it is time to go."""
        task = self._task
        cost = None
        if task.search.cost is not None:
            cost = cost_of(task, child.genotype, task.search.cost)
            limit = task.search.cost.limit
            if limit is not None and cost > limit:
                reason = f"not trained: {task.search.cost.metric} {cost:.6g} > limit {limit:.6g}"
                return _ended(child, failure=reason, status="rejected")
        left_s = self._budget.cut_off_s(self._study.known_children(), self._study.open_children())
        end = None if left_s is None else time.monotonic() + left_s
        steps_per_epoch = self._training.steps_per_epoch(task)
        num_steps = 0

        def on_epoch(epoch: int, accuracy: float | None) -> None:
            nonlocal num_steps
            num_steps = min((epoch + 1) * steps_per_epoch, self._child_steps)
            if accuracy is None or num_steps == self._child_steps:
                return
            if self._study.is_hopeless(attempt, epoch + 1, accuracy):
                raise _Pruned(f"pruned after epoch {epoch + 1}, accuracy {accuracy:.4f}")

        try:
            scores = self._training.train(
                task,
                child.genotype,
                arm=self._arm,
                number=child.number,
                cost=cost,
                on_epoch=on_epoch,
                should_stop=lambda: task.should_stop() or _is_past(end),
            )
        except ChildFailed as error:
            return _ended(child, failure=str(error), num_steps=error.num_steps)
        except _Pruned as reason:
            return _ended(child, failure=str(reason), num_steps=num_steps, status="pruned")
        except Stopped:
            if task.should_stop():
                raise
            budget = f"{task.search.budget.unit}={task.search.budget.amount:g}"
            return _ended(child, failure=f"cut off: the budget {budget} was spent")
        child = dataclasses.replace(child, scores=scores)
        return _ended(child, num_steps=scores.num_steps, status="finished")


def search_by_proposing(
    task: Task,
    proposer: Proposer,
    control: Control | None,
    *,
    training: ChildTraining | None = None,
    charged_s: float = 0.0,
    compared: float = TOP_FRACTION,
) -> SearchResult:
    """The method's arm beside its control at equal cost, and the verdict.

    Both arms have the same budget, in the same unit. With one of time, what an arm spent before its
    first child is part of it. Arms of a single worker whose trainings use one thread each run at
    the same time where there are cores for both, else one after the other.

    Args:
        training: of the children of both arms; `ImageTraining` when not given.
        charged_s: seconds that the method spent before its first child.
        compared: share of the children, the best ones, that the verdict compares.

    Raises:
        SearchFailed: not a single child of the method finished.
        StorageAway: the database of the study was away for too long.
    """
    with contextlib.closing(_open_storage(task)) as storage:
        arm, other = _run_arms(
            task, proposer, control, storage, training or ImageTraining(), charged_s
        )
    verdict = None
    if control is not None and other is not None:
        verdict = _verdict(task, arm, other, control.spoken, compared)
    return _result(task, arm, other, verdict)


def _open_storage(task: Task) -> Storage:
    search = task.search
    return Storage(
        f"sqlite:///{task.state / 'study.db'}"
        if search.storage is None
        else resolve_url(search.storage),
        worker_timeout_s=search.worker_timeout_s,
        should_stop=task.should_stop,
    )


def _run_arms(
    task: Task,
    proposer: Proposer,
    control: Control | None,
    storage: Storage,
    training: ChildTraining,
    charged_s: float,
) -> tuple[Arm, Arm | None]:
    search = task.search
    pruner = make_pruner(search.pruner, search.child.epochs)
    # Opened here, one after the other: making the tables of a new file is not for two at once.
    arms = {"method": task.method} | ({} if control is None else {"control": control.method})
    studies = {
        arm: Study(
            storage,
            study_name(search, task.run_key, arm),
            _identity(task, method),
            pruner=pruner,
        )
        for arm, method in arms.items()
    }
    is_timed = search.budget.unit in ("seconds", "gpu_hours")

    def run(arm: str, proposer: Proposer, charged_s: float) -> Arm:
        return Worker(
            task,
            arm,
            proposer,
            study=studies[arm],
            training=training,
            charged_s=charged_s,
            charge_budget=is_timed,
        ).run()

    def run_method() -> Arm:
        return run("method", proposer, charged_s)

    def run_control() -> Arm | None:
        if control is None:
            return None
        return run("control", control.proposer, control.charged_s)

    at_once = search.workers == 1 and training.uses_one_thread(task)
    return run_both(run_method, run_control, at_once=at_once)


def _result(
    task: Task, arm: Arm, control: Arm | None, verdict: dict[str, object] | None
) -> SearchResult:
    best = best_child(arm.children, value=lambda child: _value(child, task))
    if best is None or best.scores is None:
        reasons = sorted({child.failure for child in arm.children if child.failure})
        told = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" * (len(reasons) > 3))
        raise SearchFailed(
            f"none of {len(arm.children)} children finished: {told or 'stopped before the first'}"
        )
    return SearchResult(
        method=task.method,
        seed=task.seeds.seed,
        genotype=best.genotype,
        valid_accuracy=best.scores.valid_accuracy,
        arm=arm,
        control=control,
        verdict=verdict,
        cost_metric="num_params" if task.search.cost is None else task.search.cost.metric,
        pareto=pareto_front(arm.children),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """What a result depends on beside its configuration."""
    return {
        "nas-pipelines": version("nas-pipelines"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _verdict(
    task: Task, arm: Arm, control: Arm, control_name: str, compared: float
) -> dict[str, object]:
    scores, others = ([_value(child, task) for child in one.children] for one in (arm, control))
    rng = task.seeds.numpy("verdict")
    return compare(
        scores,
        others,
        rng=rng,
        name=arm.method,
        control_name=control_name,
        top_fraction=compared,
    ).to_dict()


def _value(child: Child, task: Task) -> float | None:
    """What the search maximises: the accuracy, weighed by the cost where that is an objective."""
    return _with_cost(child, task).valid_accuracy


def _with_cost(child: Child, task: Task) -> Child:
    """The child as a proposer sees it: accuracy * (cost / target)^-weight, when there is a target.

    Source: Tan et al., MnasNet, CVPR 2019, equation 2, whose soft form has the weight 0.07.
    """
    config = task.search.cost
    if child.scores is None or child.scores.cost is None or config is None or not config.target:
        return child
    factor = (child.scores.cost / config.target) ** -config.weight
    scores = dataclasses.replace(
        child.scores,
        valid_accuracy=child.scores.valid_accuracy * factor,
        train_accuracy=child.scores.train_accuracy * factor,
    )
    return dataclasses.replace(child, scores=scores)


def _identity(task: Task, method: str) -> dict[str, object]:
    return identity(
        method,
        options=task.options if method == task.method else None,
        judging=judging_of(task.options),
        space=task.space.identifier,
        seed=task.seeds.seed,
        data_sha256=task.splits.info.data_sha256,
        search=task.search,
    )


def _ended(
    child: Child, *, failure: str = "", status: Status = "failed", num_steps: int = 0
) -> Child:
    return dataclasses.replace(
        child, failure=failure, status=status, num_steps=num_steps, ended_s=time.time()
    )


def _is_past(end: float | None) -> bool:
    return end is not None and time.monotonic() > end


def _report(task: Task, arm: str, child: Child, children: Sequence[Child]) -> None:
    best = best_child(children)
    if child.scores is None or best is None or best.scores is None:
        return
    scores = {
        name: value for name, value in dataclasses.asdict(child.scores).items() if value is not None
    }
    metrics = {f"search/{arm}/{name}": float(value) for name, value in scores.items()}
    metrics[f"search/{arm}/best_valid_accuracy"] = best.scores.valid_accuracy
    task.report(metrics, child.number)
