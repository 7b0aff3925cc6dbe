"""The loop of every method that proposes architectures to be trained one by one.

A proposer sees only genotypes and results. Its state follows from the history alone, so a search
that died goes on from its study as if nothing had happened, and any number of workers may run this
loop on one study.
"""

import dataclasses
import time
from collections.abc import Sequence

from nascore.config import OBJECTIVES
from nascore.context import SearchContext
from nascore.errors import ChildFailedError, ServiceUnavailable
from nascore.results import Arm, Child, Status, best_child
from nascore.search.budget import Budget
from nascore.search.proposer import Proposer
from nascore.search.study import Attempt, OpenChild, Study
from nascore.training.child import ChildTraining, cost_of
from nascore.training.loop import TrainingStopped

_WAIT_S = 0.5  # between looks at the children that other workers are training
_MOST_REJECTED = 500  # in a row; then what is left of the space is over the limit


class _Pruned(Exception):
    """The pruner thinks that the rest of a training would be in vain."""


class Worker:
    """Proposes, trains and records the children of one arm until its budget is spent.

    Args:
        arm: `method` or `control`; names every random stream.
        study: keeps the children, those of earlier processes and of other workers too.
        training: of a child.
        prior_cost_s: seconds that the arm has cost beside its children (its coder, say).
        charge_budget: whether they are part of the budget.
    """

    def __init__(
        self,
        task: SearchContext,
        arm: str,
        proposer: Proposer,
        *,
        study: Study,
        training: ChildTraining,
        prior_cost_s: float = 0.0,
        charge_budget: bool = False,
    ) -> None:
        self._training = training
        self._task, self._arm, self._proposer, self._study = task, arm, proposer, study
        self._charged_s = prior_cost_s
        self._budget = Budget(
            task.search.budget, prior_cost_s=prior_cost_s if charge_budget else 0.0
        )
        self._child_steps = training.planned_steps(task)

    def run(self) -> Arm:
        start, known = time.perf_counter(), self._study.children()
        self._budget.resume(known)
        before_s = self._budget.before_s
        self._told = {child.number for child in known}
        try:
            while not self._task.callbacks.should_stop():
                self._learn()
                if self._space_exhausted():
                    break
                attempt = self._study.start(self._fits)
                if attempt is not None:
                    self._try(attempt)
                elif self._task.is_secondary_worker or not self._study.open_children():
                    break
                else:  # the last one out waits: a worker may die, and its child is left
                    time.sleep(_WAIT_S)
            self._learn()
        except ServiceUnavailable:
            if not self._task.callbacks.should_stop():
                raise
        spent_s = self._charged_s + before_s + time.perf_counter() - start
        return Arm(self._study.method, tuple(self._study.known_children()), spent_s)

    def _fits(self, children: Sequence[Child], ahead: Sequence[OpenChild]) -> bool:
        return self._budget.fits(children, ahead, child_steps=self._child_steps)

    def _space_exhausted(self) -> bool:
        """Whether the proposals are over the limit only, for a long time now."""
        latest = self._study.known_children()[-_MOST_REJECTED:]
        return len(latest) == _MOST_REJECTED and all(child.is_rejected for child in latest)

    def _learn(self) -> None:
        """Takes in what has ended, this worker's children and those of others."""
        for child in self._study.new_children():
            self._proposer.update(with_cost(child, self._task))
            if child.number not in self._told:
                self._told.add(child.number)
                self._task.callbacks.on_child(self._arm, child)
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
        except TrainingStopped:
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

        def on_epoch(epoch: int, score: float | None) -> None:
            nonlocal num_steps
            num_steps = min((epoch + 1) * steps_per_epoch, self._child_steps)
            if score is None or num_steps == self._child_steps:
                return
            if self._study.is_hopeless(attempt, epoch + 1, score):
                name = OBJECTIVES[task.search.objective]
                raise _Pruned(f"pruned after epoch {epoch + 1}, {name} {score:.4f}")

        try:
            scores = self._training.train(
                task,
                child.genotype,
                arm=self._arm,
                number=child.number,
                cost=cost,
                on_epoch=on_epoch,
                should_stop=lambda: task.callbacks.should_stop() or _is_past(end),
            )
        except ChildFailedError as error:
            return _ended(child, failure=str(error), num_steps=error.num_steps)
        except _Pruned as reason:
            return _ended(child, failure=str(reason), num_steps=num_steps, status="pruned")
        except TrainingStopped:
            if task.callbacks.should_stop():
                raise
            budget = f"{task.search.budget.unit}={task.search.budget.amount:g}"
            return _ended(child, failure=f"cut off: the budget {budget} was spent")
        child = dataclasses.replace(child, scores=scores)
        return _ended(child, num_steps=scores.num_steps, status="finished")


def with_cost(child: Child, task: SearchContext) -> Child:
    """The child as a proposer sees it: score * (cost / target)^-weight, when there is a target.

    Source: Tan et al., MnasNet, CVPR 2019, equation 2, whose soft form has the weight 0.07.
    """
    config = task.search.cost
    if child.scores is None or child.scores.cost is None or config is None or not config.target:
        return child
    factor = (child.scores.cost / config.target) ** -config.weight
    scores = dataclasses.replace(
        child.scores,
        valid_score=child.scores.valid * factor,
        train_score=child.scores.train * factor,
    )
    return dataclasses.replace(child, scores=scores)


def _ended(
    child: Child, *, failure: str = "", status: Status = "failed", num_steps: int = 0
) -> Child:
    return dataclasses.replace(
        child, failure=failure, status=status, num_steps=num_steps, ended_s=time.time()
    )


def _is_past(end: float | None) -> bool:
    return end is not None and time.monotonic() > end


def _report(task: SearchContext, arm: str, child: Child, children: Sequence[Child]) -> None:
    best = best_child(children)
    if child.scores is None or best is None or best.scores is None:
        return
    objective = task.search.objective
    scores = {k: v for k, v in child.scores.named(objective).items() if v is not None}
    metrics = {f"search/{arm}/{name}": float(value) for name, value in scores.items()}
    metrics[f"search/{arm}/best_valid_{objective}"] = best.scores.valid
    task.callbacks.on_metrics(metrics, child.number)
