"""NASIB (arXiv 1910.08665): twelve times the operations on an edge, within any budget.

1. `pretrain`: the warm-up, in which paths are uniform and only weights are trained. It is the first
   part of the budget. With several processes it is part of the search, which they run together.
2. `search`: weights and distribution until the budget is spent (`nascore.methods.nasib.search`).
   The control trains the same shared weights along random architectures at equal cost, and chooses
   one by them (`nascore.methods.nasib.random_control`). Both choices are trained from scratch
   several times, as children: the verdict compares these trainings.
3. `train_final`: the winner from scratch.
"""

import dataclasses
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from nascore.config import BudgetConfig
from nascore.context import device_of
from nascore.files import replacing
from nascore.genotype import Genotype
from nascore.methods.common.controller_folder import write_card
from nascore.methods.common.fixed_proposer import FixedProposer
from nascore.methods.common.one_shot_loop import checkpoint_path
from nascore.methods.nasib.planning import excluded_text
from nascore.methods.nasib.planning import plan as plan
from nascore.methods.nasib.random_control import RandomControl
from nascore.methods.nasib.search import BudgetSearch, Context, space_of
from nascore.results import Arm, Child, ChildScores, SearchResult
from nascore.search.runner import Control, search_by_proposing
from nascore.training import distributed
from nascore.training.child import build_network
from nascore.training.final_model import FinalModel, train_from_scratch
from nascore.training.loop import uses_one_thread
from nascore.training.parallel_arms import run_pair
from nascore.versions import versions

DETAILS = "nasib.json"


# --- the warm-up --------------------------------------------------------------------------------


def pretrain(context: Context) -> dict[str, float]:
    """Run the warm-up; leave its checkpoint in `context.controller`.

    Raises:
        WeightsDivergedError, InputError: see `BudgetSearch.run`.
    """
    start = time.perf_counter()
    dropped = excluded_text(space_of(context), context.shape)
    if dropped:
        context.callbacks.on_message(dropped)
    metrics: dict[str, float] = {}
    if context.search.workers == 1:
        search = BudgetSearch(context)
        search.run(until=context.options.schedule.warmup)
        shutil.copyfile(checkpoint_path(context.state), checkpoint_path(context.controller))
        metrics["warmup_steps"] = float(search.step)
    metrics["seconds"] = time.perf_counter() - start
    write_card(context, metrics)
    return metrics


def _copy_warmup(context: Context) -> None:
    """Start the search from the checkpoint of the warm-up, unless it has one of its own."""
    made, own = (checkpoint_path(folder) for folder in (context.controller, context.state))
    if distributed.is_first() and made.exists() and not own.exists():
        with replacing(own) as temporary:
            shutil.copyfile(made, temporary)
    distributed.agree(0.0, device=device_of(context.training))  # all wait for the first


# --- the search ---------------------------------------------------------------------------------


def search(context: Context) -> SearchResult:
    """Run both arms until the budget is spent, then the trainings that the verdict compares.

    Raises:
        WeightsDivergedError, InputError: see `BudgetSearch.run`.
        SearchFailed: no training ended with finite numbers.
    """
    with distributed.joined(device_of(context.training)):
        _copy_warmup(context)
        method = BudgetSearch(context)
        control = RandomControl(context, "control") if context.search.control else None
        chosen = _run_arms(context, method, control)
        genotype = method.genotype()
        _export_details(context, method)
        if control is None or chosen is None or context.callbacks.should_stop():
            return _without_trainings(context, method, genotype)
        return _compared(context, method, genotype, control, chosen)


def _run_arms(
    context: Context, method: BudgetSearch, control: RandomControl | None
) -> Genotype | None:
    """Return the choice of the control; None without one, or after a request to stop."""

    def run_control() -> Genotype | None:
        if control is None:
            return None
        control.run()
        return None if context.callbacks.should_stop() else control.ranked()[0][0]

    at_once = distributed.size() == 1
    at_once &= uses_one_thread(context.splits.train, context.options.weights)
    return run_pair(method.run, run_control, at_once=at_once)[1]


def _without_trainings(context: Context, method: BudgetSearch, genotype: Genotype) -> SearchResult:
    """Return the architecture as it is evaluated with shared weights, and no verdict."""
    hasty = context.callbacks.should_stop()
    (accuracy,) = method.accuracies([genotype], hasty=hasty)
    (score,) = method.scores([genotype], hasty=hasty)
    valid_score = None if context.search.objective == "accuracy" else score
    (train_accuracy,) = method.accuracies([genotype], context.splits.train, hasty=True)
    network = build_network(context.space, genotype, context.shape, seed=0)
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
        context.callbacks.on_child("method", child)
    return SearchResult(
        method=context.method,
        seed=context.seeds.seed,
        genotype=genotype,
        valid_accuracy=accuracy,
        objective=context.search.objective,
        valid_score=valid_score,
        arm=Arm(context.method, () if hasty else (child,), method.seconds),
        control=None,
        verdict=None,
        pareto=() if hasty else (0,),
        versions=versions(),
    )


def _compared(
    context: Context,
    method: BudgetSearch,
    genotype: Genotype,
    control: RandomControl,
    chosen: Genotype,
) -> SearchResult:
    """Train the choice of each arm from scratch several times, with different initial weights.

    The result has the mean accuracy of the method's trainings.
    """
    budget = BudgetConfig(children=context.options.num_trainings)
    trainings = dataclasses.replace(
        context,
        search=context.search.model_copy(update={"budget": budget}),
        is_secondary_worker=context.is_secondary_worker or not distributed.is_first(),
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
    is_accuracy = context.search.objective == "accuracy"
    return dataclasses.replace(
        result,
        valid_accuracy=statistics.fmean(scores.valid_accuracy for scores in done),
        valid_score=None if is_accuracy else statistics.fmean(scores.valid for scores in done),
    )


# --- details of the search for the report -------------------------------------------------------


def _export_details(context: Context, method: BudgetSearch) -> None:
    if context.weights is None or not distributed.is_first():
        return
    context.weights.mkdir(parents=True, exist_ok=True)
    config = space_of(context).config
    details = {
        "version": 1,
        "budget": {"unit": context.search.budget.unit, "amount": context.search.budget.amount},
        "steps": method.step,
        "seconds": method.seconds,
        "exploring_share": method.schedule.exploring_share,
        "warmup": method.schedule.warmup,
        "candidates": config.num_convolutions + len(config.operations) - 1,
        "dropped": excluded_text(space_of(context), context.shape),
        "values": {
            "branch": list(config.operations),
            "type": list(config.types),
            "height": list(config.kernel_sizes),
            "width": list(config.kernel_sizes),
            "dilation": list(config.dilations),
        },
        "history": method.history.rows,
    }
    (context.weights / DETAILS).write_text(json.dumps(details))


def train_final(context: Context, result: SearchResult) -> FinalModel:
    """Train the winner from scratch; the details of the search become those of the model."""
    final = train_from_scratch(context, result)
    details = _details(context.weights)
    return final if details is None else dataclasses.replace(final, details={"nasib": details})


def _details(weights: Path | None) -> dict[str, Any] | None:
    """Return the details of the search; None where an architecture is trained without one."""
    if weights is None or not (weights / DETAILS).exists():
        return None
    found: dict[str, Any] = json.loads((weights / DETAILS).read_text())
    return found
