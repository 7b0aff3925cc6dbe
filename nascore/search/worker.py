"""The loop of every method that proposes architectures to be trained one by one.

A proposer receives genotypes and results only. Its state follows from the history alone, so a
search that was killed resumes from its study, and any number of workers may run this loop on one
study.
"""

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Sequence

from nascore.config import OBJECTIVES
from nascore.context import SearchContext
from nascore.errors import ChildFailedError, ServiceUnavailable
from nascore.genotype import Genotype
from nascore.results import Arm, Child, ChildScores, best_child
from nascore.search.attempts import Attempt, OpenChild
from nascore.search.budget import Budget
from nascore.search.proposer import Pending, Proposer
from nascore.search.study import Study
from nascore.spaces.base import BoundedSpace, StandardSpace
from nascore.steady_clock import since_epoch_s
from nascore.training.child import ChildJob, ChildTraining, cost_of
from nascore.training.loop import OnEpoch, TrainingStopped

_log = logging.getLogger(__name__)

MAX_TRIES = 5
"""A child whose workers died so often counts as failed."""
_WAIT_S = 0.5  # between looks at the children that other workers are training
_MAX_REJECTED = 500  # in a row; then the rest of the space is taken to be over the limit


class _PrunedError(Exception):
    """The pruner ends the training of a child."""


class _CutOffError(Exception):
    """The budget of time ends the training of a child."""


class Worker:
    """Proposes, trains and records the children of one arm until its budget is spent.

    Args:
        arm: `method` or `control`; names every random stream.
        study: holds the children, those of earlier processes and of other workers too.
        training: of a child.
        prior_cost_s: seconds that the arm has cost before its first child, such as pretraining.
        charge_budget: whether they are part of the budget.
    """

    def __init__(
        self,
        context: SearchContext,
        arm: str,
        proposer: Proposer,
        *,
        study: Study,
        training: ChildTraining,
        prior_cost_s: float = 0.0,
        charge_budget: bool = False,
    ) -> None:
        self._context, self._arm, self._proposer = context, arm, proposer
        self._study, self._training = study, training
        self._prior_cost_s = prior_cost_s
        self._budget = Budget(
            context.search.budget, prior_cost_s=prior_cost_s if charge_budget else 0.0
        )
        self._child_steps = training.planned_steps(context)

    def run(self) -> Arm:
        """Train children until the budget is spent or a stop is requested.

        Raises:
            ServiceUnavailable: the database of the study did not answer for too long.
        """
        start, known = time.perf_counter(), self._study.children()
        self._budget.resume(known)
        before_s = self._budget.before_s
        self._reported = {child.number for child in known}
        should_stop = self._context.callbacks.should_stop
        try:
            while not should_stop():
                self._update()
                if self._is_space_exhausted():
                    break
                attempt = self._study.start(self._fits)
                if attempt is not None:
                    self._try(attempt)
                elif self._context.is_secondary_worker or not self._study.open_children():
                    break
                else:  # the primary worker waits: another may die and leave its child
                    time.sleep(_WAIT_S)
            self._update()
        except ServiceUnavailable:
            if not should_stop():
                raise
        spent_s = self._prior_cost_s + before_s + time.perf_counter() - start
        return Arm(self._study.method, tuple(self._study.known_children()), spent_s)

    def _fits(self, children: Sequence[Child], ahead: Sequence[OpenChild]) -> bool:
        return self._budget.fits(children, ahead, child_steps=self._child_steps)

    def _is_space_exhausted(self) -> bool:
        """Return whether all of the last proposals were over the limit of the cost."""
        latest = self._study.known_children()[-_MAX_REJECTED:]
        return len(latest) == _MAX_REJECTED and all(child.is_rejected for child in latest)

    def _update(self) -> None:
        """Pass the children that have ended, of this worker and of others, to the proposer."""
        for child in self._study.new_children():
            self._proposer.update(child)
            if child.number not in self._reported:
                self._reported.add(child.number)
                self._report(child)

    def _try(self, attempt: Attempt) -> None:
        """Run one child from its proposal to its end."""
        pending = {
            other.number: other.genotype
            for other in self._study.open_children()
            if other.genotype is not None and other.number != attempt.number
        }
        genotype = attempt.genotype or self._suggest(attempt.number, pending)
        if not self._study.propose(attempt, genotype):
            self._study.withdraw(attempt)  # another worker took this one for dead
            return
        started_s, start = since_epoch_s(), time.monotonic()
        try:
            child = self._evaluate(attempt, genotype)
        except TrainingStopped:
            self._study.withdraw(attempt)  # the child is tried again when the search resumes
        else:
            # Not by the clock, which may be set meanwhile: the budget counts this time.
            ended_s = started_s + time.monotonic() - start
            child = dataclasses.replace(child, started_s=started_s, ended_s=ended_s)
            self._study.finish(attempt, child)

    def _suggest(self, number: int, pending: Pending) -> Genotype:
        """Return the standard network of the space as the first child, then what is proposed.

        So the result of a search is at least as good, on the validation split, as the network that
        would be used without it; this holds for the control as well.
        """
        space = self._context.space
        if number == 0 and isinstance(space, StandardSpace):
            return space.standard
        return self._proposer.suggest(number, pending)

    def _evaluate(self, attempt: Attempt, genotype: Genotype) -> Child:
        """Train a child, unless it failed too often or costs too much.

        Raises:
            TrainingStopped: a stop was requested.
        """
        search = self._context.search
        unfinished = functools.partial(Child, number=attempt.number, genotype=genotype)
        if attempt.tries > MAX_TRIES:
            reason = f"given up: {attempt.tries - 1} workers died while they trained it"
            return unfinished(failure=reason, status="failed")
        space = self._context.space
        if isinstance(space, BoundedSpace) and (
            refusal := space.refusal(genotype, self._context.shape)
        ):
            return unfinished(failure=f"not trained: {refusal}", status="rejected")
        cost = None
        if search.cost is not None:
            cost = cost_of(self._context, genotype, search.cost)
            limit = search.cost.limit
            if limit is not None and cost > limit:
                reason = f"not trained: {search.cost.metric} {cost:.6g} > limit {limit:.6g}"
                return unfinished(failure=reason, status="rejected")
        num_steps = 0

        def on_epoch(epoch: int, score: float | None) -> None:
            nonlocal num_steps
            num_steps = self._steps_after(epoch)
            self._prune(attempt, epoch, score)

        try:
            scores = self._train(attempt.number, genotype, cost, on_epoch)
        except ChildFailedError as error:
            return unfinished(failure=str(error), status="failed", num_steps=error.num_steps)
        except _PrunedError as reason:
            return unfinished(failure=str(reason), status="pruned", num_steps=num_steps)
        except _CutOffError as reason:
            return unfinished(failure=str(reason), status="failed")
        return Child.of_scores(
            attempt.number,
            genotype,
            scores,
            cost_factor=_cost_factor(self._context, cost),
            num_steps=self._child_steps,
        )

    def _train(
        self, number: int, genotype: Genotype, cost: float | None, on_epoch: OnEpoch
    ) -> ChildScores:
        """Train a child until the budget of time is spent."""
        left_s = self._budget.cut_off_s(self._study.known_children(), self._study.open_children())
        end = math.inf if left_s is None else time.monotonic() + left_s
        should_stop = self._context.callbacks.should_stop
        job = ChildJob(
            genotype=genotype,
            arm=self._arm,
            number=number,
            cost=cost,
            on_epoch=on_epoch,
            should_stop=lambda: should_stop() or time.monotonic() > end,
        )
        try:
            return self._training.train(self._context, job)
        except TrainingStopped:
            if should_stop():
                raise
            budget = self._context.search.budget
            reason = f"cut off: the budget {budget.unit}={budget.amount:g} was spent"
            raise _CutOffError(reason) from None

    def _steps_after(self, epoch: int) -> int:
        steps = (epoch + 1) * self._training.steps_per_epoch(self._context)
        return min(steps, self._child_steps)

    def _prune(self, attempt: Attempt, epoch: int, score: float | None) -> None:
        """Raise _PrunedError where the pruner ends the training after `epoch`, counted from 0."""
        if score is None or self._steps_after(epoch) == self._child_steps:
            return
        if self._study.should_prune(attempt, epoch + 1, score):
            name = OBJECTIVES[self._context.search.objective]
            raise _PrunedError(f"pruned after epoch {epoch + 1}, {name} {score:.4f}")

    def _report(self, child: Child) -> None:
        """Pass a child to the callbacks, with its metrics where it finished."""
        context, arm = self._context, self._arm
        context.callbacks.on_child(arm, child)
        objective = context.search.objective
        best = best_child(self._study.known_children())
        if child.scores is None or best is None or best.score is None:
            _log.info("%s child %d: %s", arm, child.number, child.failure)
            return
        _log.info(
            "%s child %d: valid %s %.4f (best %.4f), %d steps, %.1f s",
            *(arm, child.number, OBJECTIVES[objective], child.scores.valid, best.score),
            *(child.num_steps, child.duration_s or 0.0),
        )
        measured = child.scores.named(objective)
        measured |= {"num_steps": child.num_steps, "duration_s": child.duration_s or 0.0}
        metrics = {f"search/{arm}/{name}": float(value) for name, value in measured.items()}
        metrics[f"search/{arm}/best_valid_{objective}"] = best.score
        context.callbacks.on_metrics(metrics, child.number)


def _cost_factor(context: SearchContext, cost: float | None) -> float:
    """Return (cost / target)^-weight, by which scores are multiplied; 1 without a target.

    Source: Tan et al., MnasNet, CVPR 2019, equation 2, whose soft form has the weight 0.07.
    """
    config = context.search.cost
    if cost is None or config is None or not config.target:
        return 1.0
    return float((cost / config.target) ** -config.weight)
