"""NASIB (arXiv 1910.08665): twelve times the operations on an edge, within any budget.

1. `pretrain`: the warm-up, in which paths are uniform and only weights learn. It is the first part
   of the budget. Of several processes the search makes it, together.
2. `search`: weights and distribution until the budget is spent (`nascore.methods.nasib.search`).
   The control trains the same shared weights along random architectures at equal cost, and chooses
   one by them (`nascore.methods.nasib.random_control`). What both have chosen is trained from
   scratch several times, as a child is: the verdict compares these trainings.
3. `train_final`: the winner from scratch.
"""

import dataclasses
import json
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from nascore.config import BudgetConfig
from nascore.context import SearchContext, device_of
from nascore.genotype import Genotype
from nascore.methods.nasib.planning import BudgetPlan, dropped_in_words
from nascore.methods.nasib.planning import plan as plan_of
from nascore.methods.nasib.random_control import RandomControl
from nascore.methods.nasib.search import BudgetSearch, options_of, path_of, space_of
from nascore.results import Arm, Child, ChildScores, SearchResult
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.search.runner import Control, search_by_proposing
from nascore.training import distributed
from nascore.training.child import build_network
from nascore.training.final_model import FinalModel, train_from_scratch
from nascore.training.loop import uses_one_thread
from nascore.training.parallel_arms import run_pair
from nascore.versions import versions

CARD = "controller.json"
DETAILS = "nasib.json"


def plan(task: SearchContext) -> BudgetPlan:
    """What the budget buys; measures the pace of this machine where it is one of time."""
    return plan_of(task)


# --- the warm-up --------------------------------------------------------------------------------


def pretrain(task: SearchContext) -> dict[str, float]:
    """The warm-up, left in `task.controller` for the search to go on from.

    Raises:
        WeightsDiverged, InputError: see `BudgetSearch.run`.
    """
    start = time.perf_counter()
    dropped = dropped_in_words(space_of(task), task.shape)
    if dropped:
        task.callbacks.on_message(dropped)
    metrics: dict[str, float] = {}
    if task.search.workers == 1:
        search = BudgetSearch(task)
        search.run(until=options_of(task).schedule.warmup)
        shutil.copyfile(path_of(task.state), path_of(task.controller))
        metrics["warmup_steps"] = float(search.step)
    metrics["seconds"] = time.perf_counter() - start
    card = {"version": 1, "method": task.method, "metrics": metrics}
    (task.controller / CARD).write_text(json.dumps(card))
    return metrics


def _take_over(task: SearchContext) -> None:
    """The warm-up becomes the beginning of the search, unless that has begun already."""
    made, own = path_of(task.controller), path_of(task.state)
    if distributed.is_first() and made.exists() and not own.exists():
        temporary = own.with_name(f".{own.name}.{os.getpid()}")
        shutil.copyfile(made, temporary)
        os.replace(temporary, own)
    distributed.agree(0.0, device=device_of(task.training))  # all wait for the first


# --- the search ---------------------------------------------------------------------------------


def search(task: SearchContext) -> SearchResult:
    """Both arms until the budget is spent, then the trainings that the verdict compares.

    Raises:
        WeightsDiverged, InputError: see `BudgetSearch.run`.
        SearchFailed: no training ended with finite numbers.
    """
    with distributed.joined(device_of(task.training)):
        _take_over(task)
        method = BudgetSearch(task)
        control = RandomControl(task, "control") if task.search.control else None
        chosen = _run_arms(task, method, control)
        genotype = method.genotype()
        _hand_on(task, method)
        if control is None or chosen is None or task.callbacks.should_stop():
            return _without_trainings(task, method, genotype)
        return _compared(task, method, genotype, control, chosen)


def _run_arms(
    task: SearchContext, method: BudgetSearch, control: RandomControl | None
) -> Genotype | None:
    """Returns what the control has chosen; None without one, or when told to stop."""

    def run_control() -> Genotype | None:
        if control is None:
            return None
        control.run()
        return None if task.callbacks.should_stop() else control.ranked()[0][0]

    at_once = distributed.size() == 1
    at_once &= uses_one_thread(task.splits.train, options_of(task).weights)
    return run_pair(method.run, run_control, at_once=at_once)[1]


def _without_trainings(
    task: SearchContext, method: BudgetSearch, genotype: Genotype
) -> SearchResult:
    """The architecture with nothing beside: judged by shared weights, in haste after a stop."""
    hasty = task.callbacks.should_stop()
    (accuracy,) = method.accuracies([genotype], hasty=hasty)
    (score,) = method.scores([genotype], hasty=hasty)
    valid_score = None if task.search.objective == "accuracy" else score
    (train_accuracy,) = method.accuracies([genotype], task.splits.train, hasty=True)
    network = build_network(task.space, genotype, task.shape, seed=0)
    now = time.time()
    child = Child.of_scores(
        0,
        genotype,
        ChildScores(
            valid_accuracy=accuracy,
            train_accuracy=train_accuracy,
            num_params=sum(parameter.numel() for parameter in network.parameters()),
            valid_score=valid_score,
        ),
        started_s=now - method.seconds,
        ended_s=now,
        num_steps=method.step,
    )
    if not hasty:
        task.callbacks.on_child("method", child)
    return SearchResult(
        method=task.method,
        seed=task.seeds.seed,
        genotype=genotype,
        valid_accuracy=accuracy,
        objective=task.search.objective,
        valid_score=valid_score,
        arm=Arm(task.method, () if hasty else (child,), method.seconds),
        control=None,
        verdict=None,
        pareto=() if hasty else (0,),
        versions=versions(),
    )


def _compared(
    task: SearchContext,
    method: BudgetSearch,
    genotype: Genotype,
    control: RandomControl,
    chosen: Genotype,
) -> SearchResult:
    """What each arm has chosen, trained from scratch several times with different weights: what is
    left to chance then is the same for both. The result has the mean of its accuracies."""
    budget = BudgetConfig(children=options_of(task).num_trainings)
    trainings = dataclasses.replace(
        task,
        search=task.search.model_copy(update={"budget": budget}),
        is_secondary_worker=task.is_secondary_worker or not distributed.is_first(),
    )
    result = search_by_proposing(
        trainings,
        FixedProposer(genotype),
        Control(
            FixedProposer(chosen),
            method="random-ws",
            display_name="random search with shared weights",
            prior_cost_s=control.seconds,
        ),
        prior_cost_s=method.seconds,
        compared=1.0,
    )
    done = [child.scores for child in result.arm.children if child.scores is not None]
    is_accuracy = task.search.objective == "accuracy"
    return dataclasses.replace(
        result,
        valid_accuracy=statistics.fmean(scores.valid_accuracy for scores in done),
        valid_score=None if is_accuracy else statistics.fmean(scores.valid for scores in done),
    )


class FixedProposer:
    """Proposes one architecture, again and again."""

    def __init__(self, genotype: Genotype) -> None:
        self._genotype = genotype

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        return self._genotype

    def update(self, child: Child) -> None:
        """A training does not change what was chosen."""


# --- what goes from the search to the report ----------------------------------------------------


def _hand_on(task: SearchContext, method: BudgetSearch) -> None:
    if task.weights is None or not distributed.is_first():
        return
    task.weights.mkdir(parents=True, exist_ok=True)
    config = space_of(task).config
    details = {
        "version": 1,
        "budget": {"unit": task.search.budget.unit, "amount": task.search.budget.amount},
        "steps": method.step,
        "seconds": method.seconds,
        "exploring_share": method.schedule.exploring_share,
        "warmup": method.schedule.warmup,
        "candidates": config.num_convolutions + len(config.branches) - 1,
        "dropped": dropped_in_words(space_of(task), task.shape),
        "values": {
            "branch": list(config.branches),
            "type": list(config.types),
            "height": list(config.kernel_sizes),
            "width": list(config.kernel_sizes),
            "dilation": list(config.dilations),
        },
        "history": method.history.rows,
    }
    (task.weights / DETAILS).write_text(json.dumps(details))


def train_final(task: SearchContext, result: SearchResult) -> FinalModel:
    """From scratch; what the search has told of itself becomes part of the model's details."""
    final = train_from_scratch(task, result)
    details = _details(task.weights)
    return final if details is None else dataclasses.replace(final, details={"nasib": details})


def _details(weights: Path | None) -> dict[str, Any] | None:
    """None where an architecture is trained anew without a search."""
    if weights is None or not (weights / DETAILS).exists():
        return None
    found: dict[str, Any] = json.loads((weights / DETAILS).read_text())
    return found
