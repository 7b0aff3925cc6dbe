"""memory-ENAS, ENAS, and random search with shared weights: three arms of one search.

Source: Understanding Neural Architecture Search Techniques (arXiv 1904.00438), of which only the
abstract was available; the search is ENAS (arXiv 1802.03268), and what the abstract leaves open is
our choice (docs/memory-enas.md).

1. `pretrain`: the memory is filled with uniform architectures, and the controller is trained to
   encode them for `memory.pretrain_steps`.
2. `search`: shared weights and controller are trained in turn
   (`nascore.methods.enas.shared_search`). The control samples uniformly and is equal otherwise.
   Then each arm ranks candidates by shared weights, and the first of both rankings are trained from
   scratch: the verdict compares their accuracies, since shared weights rank poorly.
3. `train_final`: the winner from scratch.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from nascore import checkpoint
from nascore.config import BudgetConfig
from nascore.context import SearchContext, device_of
from nascore.errors import CheckpointError
from nascore.genotype import Genotype
from nascore.methods.common.controller_folder import seconds_of, write_card
from nascore.methods.enas.checkpoint import load_policy_state
from nascore.methods.enas.controller import Controller
from nascore.methods.enas.diagnosis.diagnosis import quick_metrics, quick_set
from nascore.methods.enas.learner import Learner
from nascore.methods.enas.options import EnasOptions, RandomWsOptions
from nascore.methods.enas.policy import Policy, UniformPolicy
from nascore.methods.enas.shared_search import Ranked, SharedSearch
from nascore.results import Arm, Child, SearchResult
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.search.runner import Control, search_by_proposing
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace, SharedSpace
from nascore.training import distributed
from nascore.training.final_model import FinalModel, train_from_scratch
from nascore.training.loop import uses_one_thread
from nascore.training.parallel_arms import run_pair
from nascore.versions import versions

Context = SearchContext[RandomWsOptions]

_KIND = "enas-controller"
_CONTROLLER = "controller.ckpt"
_STREAM = "controller"  # the same for ENAS with and without memory: equal seeds start equal


# --- the controller before the search -----------------------------------------------------------


def pretrain(context: Context) -> dict[str, float]:
    """Fill the memory and train its encoding; leave the controller in `context.controller`."""
    start = time.perf_counter()
    metrics: dict[str, float] = {}
    learner = _new_learner(context)
    if learner is not None and learner.encoder is not None:
        metrics = learner.pretrain()
        checkpoint.save(
            context.controller / _CONTROLLER,
            learner.state(),
            {"space": context.space.identifier, "options": context.options.model_dump(mode="json")},
            _KIND,
        )
    metrics["seconds"] = time.perf_counter() - start
    write_card(context, metrics)
    return metrics


def _new_learner(context: Context) -> Learner | None:
    """Return an untrained controller; None for random search, which has none."""
    options = context.options
    if not isinstance(options, EnasOptions):
        return None
    return Learner(context.space.cardinalities, options, context.seeds, _STREAM)


def load_policy(context: Context) -> tuple[Policy, float]:
    """Return the policy of the method's arm as `pretrain` left it, and the seconds it has cost.

    Raises:
        CheckpointError: the controller is damaged, or of another space.
    """
    learner = _new_learner(context)
    if learner is None:
        return UniformPolicy(context.space, context.seeds, "method"), 0.0
    if learner.encoder is None:
        return learner, 0.0
    tensors, meta = checkpoint.load(context.controller / _CONTROLLER, _KIND)
    if meta["space"] != context.space.identifier:
        raise CheckpointError(
            f"{context.controller} holds a controller of {meta['space']}, expected one of "
            f"{context.space.identifier}"
        )
    learner.load_state(tensors)
    return learner, seconds_of(context.controller)


def load_controllers(
    state: Path, method: str, space: SearchSpace, options: EnasOptions, seeds: Seeds
) -> tuple[Controller, Controller]:
    """Return the controller of a search as its checkpoint has it, and with its initial weights.

    Args:
        state: the folder of the search (`nascore.context.SearchContext.state`), finished or not.

    Raises:
        InputError: there is no checkpoint, or it is damaged, or of another search.
    """
    tensors = load_policy_state(
        state, "method", method=method, space=space, seeds=seeds, options=options
    )
    now, initial = (Learner(space.cardinalities, options, seeds, _STREAM) for _ in range(2))
    now.load_state(tensors)
    return now.controller, initial.controller


# --- the search -----------------------------------------------------------------------------


def search(context: Context) -> SearchResult:
    """Train both arms with shared weights, then the first of their rankings from scratch.

    Raises:
        WeightsDivergedError: see `SharedSearch.run`.
        SearchFailed: none of the finalists could be trained.
        InputError: a checkpoint is damaged or of another search.
    """
    device = device_of(context.training)
    with distributed.joined(device):
        policy, prior_cost_s = load_policy(context)
        method = SharedSearch(
            context,
            "method",
            policy,
            prior_cost_s=prior_cost_s,
            diagnose=_instruments(context, policy),
        )
        control = None
        if context.search.control:
            control = SharedSearch(
                context, "control", UniformPolicy(context.space, context.seeds, "control")
            )
        ranking, others = _search_shared(context, method, control)
        if context.callbacks.should_stop():
            return _best_so_far(context, ranking[0], method)
        return _finals(context, method, control, ranking, others)


def _instruments(context: Context, policy: Policy) -> Callable[[], dict[str, float]] | None:
    """Return a function that measures the controller during the search; None without one."""
    if not isinstance(policy, Learner):
        return None
    controller, fixed = policy.controller, quick_set(cast(SharedSpace, context.space))
    return lambda: quick_metrics(controller, fixed)


def evaluate_with_shared_weights(
    context: Context, arm: str, genotypes: Sequence[Genotype]
) -> list[float]:
    """Return validation accuracies with the shared weights that an arm of a search has left.

    Raises:
        InputError: there is no checkpoint, or it is damaged, or of another search.
    """
    is_method = arm == "method"
    policy = (
        load_policy(context)[0] if is_method else UniformPolicy(context.space, context.seeds, arm)
    )
    search = SharedSearch(context, arm, policy)
    search.load()
    return search.accuracies(genotypes)


def _search_shared(
    context: Context, method: SharedSearch, control: SharedSearch | None
) -> tuple[list[Ranked], list[Ranked]]:
    def run(arm: SharedSearch | None) -> list[Ranked]:
        if arm is None:
            return []
        arm.run()
        return arm.rank()

    at_once = distributed.size() == 1 and uses_one_thread(
        context.splits.train, context.options.weights
    )
    return run_pair(lambda: run(method), lambda: run(control), at_once=at_once)


def _finals(
    context: Context,
    method: SharedSearch,
    control: SharedSearch | None,
    ranking: Sequence[Ranked],
    others: Sequence[Ranked],
) -> SearchResult:
    """Train the best of each ranking from scratch, in its order, as children of a study."""
    budget = context.search.budget
    if budget.unit == "steps":
        budget = BudgetConfig(children=context.options.num_finalists)
    finals = dataclasses.replace(
        context,
        search=context.search.model_copy(update={"budget": budget}),
        is_secondary_worker=context.is_secondary_worker or not distributed.is_first(),
    )
    return search_by_proposing(
        finals,
        Finalists(ranking, context.space, context.seeds, "method"),
        None
        if control is None
        else Control(
            Finalists(others, context.space, context.seeds, "control"),
            method="random-ws",
            display_name="random search with shared weights",
            prior_cost_s=control.seconds,
        ),
        prior_cost_s=method.seconds,
        compared=1.0,
    )


class Finalists:
    """Proposes the architectures of a ranking, the best first; then uniform ones."""

    def __init__(
        self, ranking: Sequence[Ranked], space: SearchSpace, seeds: Seeds, stream: str
    ) -> None:
        self._ranking, self._space, self._seeds, self._stream = ranking, space, seeds, stream

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        if number < len(self._ranking):
            return self._ranking[number].genotype
        return base.sample(self._space, self._seeds.numpy(self._stream, "finalist", number))

    def update(self, child: Child) -> None:
        """Ignore the child: the ranking is fixed."""


def _best_so_far(context: Context, first: Ranked, method: SharedSearch) -> SearchResult:
    """Return the result of a search that has to stop: its first by shared weights, no verdict."""
    objective = context.search.objective
    is_accuracy = objective == "accuracy"
    return SearchResult(
        method=context.method,
        seed=context.seeds.seed,
        genotype=first.genotype,
        valid_accuracy=first.score
        if is_accuracy
        else method.accuracies([first.genotype], hasty=True)[0],
        objective=objective,
        valid_score=None if is_accuracy else first.score,
        arm=Arm(context.method, (), method.seconds),
        control=None,
        verdict=None,
        versions=versions(),
    )


def train_final(context: Context, result: SearchResult) -> FinalModel:
    """Train the winner from scratch."""
    return train_from_scratch(context, result)
