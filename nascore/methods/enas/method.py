"""memory-ENAS, ENAS, and random search with shared weights: three arms of one search.

Source: Understanding Neural Architecture Search Techniques (arXiv 1904.00438), of which we know the
abstract; the search is ENAS (arXiv 1802.03268), and what the abstract leaves open is our choice
(docs/memory-enas.md).

1. `pretrain`: the memory is filled with uniform architectures, and the controller learns to encode
   them, if asked to.
2. `search`: shared weights and controller are trained in turn
   (`nascore.methods.enas.shared_search`). A control, equal in all else, samples uniformly. Then
   each arm ranks what it would choose by shared weights, and the first of both rankings are trained
   from scratch: their accuracies are what the verdict compares, since shared weights rank poorly.
3. `train_final`: the winner from scratch.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from nascore.config import BudgetConfig
from nascore.context import SearchContext, device_of
from nascore.errors import CheckpointError
from nascore.genotype import Genotype
from nascore.methods.enas.checkpoint import load_policy_state
from nascore.methods.enas.controller import Controller
from nascore.methods.enas.diagnosis.diagnosis import quick_metrics, quick_set
from nascore.methods.enas.learner import Learner
from nascore.methods.enas.options import EnasOptions, MemoryEnasOptions, RandomWsOptions
from nascore.methods.enas.policy import Policy, UniformPolicy
from nascore.methods.enas.shared_search import Ranked, SharedSearch
from nascore.results import Arm, Child, SearchResult
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.search.runner import Control, search_by_proposing
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace, SharedSpace
from nascore.training import checkpoint, distributed
from nascore.training.final_model import FinalModel, train_from_scratch
from nascore.training.loop import uses_one_thread
from nascore.training.parallel_arms import run_pair
from nascore.versions import versions

_KIND = "enas-controller"
_CARD = "controller.json"
_CONTROLLER = "controller.ckpt"
_STREAM = "controller"  # the same for ENAS with and without memory: equal seeds start equal


# --- the controller before the search -----------------------------------------------------------


def pretrain(task: SearchContext) -> dict[str, float]:
    """Fills the memory and trains the encoding alone; leaves the learner in `task.controller`."""
    start = time.perf_counter()
    metrics: dict[str, float] = {}
    if isinstance(task.options, MemoryEnasOptions):
        learner = _new_learner(task)
        metrics = learner.pretrain()
        checkpoint.save(
            task.controller / _CONTROLLER,
            learner.state(),
            {"space": task.space.identifier, "options": task.options.model_dump(mode="json")},
            _KIND,
        )
    metrics["seconds"] = time.perf_counter() - start
    card = {"version": 1, "method": task.method, "metrics": metrics}
    (task.controller / _CARD).write_text(json.dumps(card))
    return metrics


def _new_learner(task: SearchContext) -> Learner:
    assert isinstance(task.options, EnasOptions)
    return Learner(task.space.cardinalities, task.options, task.seeds, _STREAM)


def load_policy(task: SearchContext) -> tuple[Policy, float]:
    """The policy of the method's arm as `pretrain` left it, and the seconds that it has cost.

    Raises:
        CheckpointError: what is there is damaged, or of another space.
    """
    if not isinstance(task.options, EnasOptions):
        return UniformPolicy(task.space, task.seeds, "method"), 0.0
    learner = _new_learner(task)
    if not isinstance(task.options, MemoryEnasOptions):
        return learner, 0.0
    tensors, meta = checkpoint.load(task.controller / _CONTROLLER, _KIND)
    if meta["space"] != task.space.identifier:
        raise CheckpointError(
            f"{task.controller} holds a controller of {meta['space']}, expected one of "
            f"{task.space.identifier}"
        )
    learner.load_state(tensors)
    return learner, _seconds(task.controller)


def load_controllers(
    state: Path, method: str, space: SearchSpace, options: EnasOptions, seeds: Seeds
) -> tuple[Controller, Controller]:
    """The controller of a search as it is now, and as it was with its initial weights.

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


def _seconds(controller: Path) -> float:
    return float(json.loads((controller / _CARD).read_text())["metrics"]["seconds"])


# --- the search -----------------------------------------------------------------------------


def search(task: SearchContext) -> SearchResult:
    """Both arms with shared weights, then the first of their rankings from scratch.

    Raises:
        WeightsDiverged: see `SharedSearch.run`.
        SearchFailed: none of the finalists could be trained.
        InputError: a checkpoint is damaged or of another search.
    """
    device = device_of(task.training)
    with distributed.joined(device):
        policy, prior_cost_s = load_policy(task)
        method = SharedSearch(
            task, "method", policy, prior_cost_s=prior_cost_s, diagnose=_instruments(task, policy)
        )
        control = None
        if task.search.control:
            control = SharedSearch(
                task, "control", UniformPolicy(task.space, task.seeds, "control")
            )
        ranking, others = _search_shared(task, method, control)
        if task.callbacks.should_stop():
            return _best_so_far(task, ranking[0], method)
        return _finals(task, method, control, ranking, others)


def _instruments(task: SearchContext, policy: Policy) -> Callable[[], dict[str, float]] | None:
    """What is measured of a controller's memory during the search; nothing without one."""
    if not isinstance(policy, Learner):
        return None
    controller, fixed = policy.controller, quick_set(cast(SharedSpace, task.space))
    return lambda: quick_metrics(controller, fixed)


def judge_with_shared_weights(
    task: SearchContext, arm: str, genotypes: Sequence[Genotype]
) -> list[float]:
    """Validation accuracies with the shared weights that an arm of the search has left.

    Raises:
        InputError: there is no checkpoint, or it is damaged, or of another search.
    """
    is_method = arm == "method"
    policy = load_policy(task)[0] if is_method else UniformPolicy(task.space, task.seeds, arm)
    search = SharedSearch(task, arm, policy)
    search.load()
    return search.accuracies(genotypes)


def _search_shared(
    task: SearchContext, method: SharedSearch, control: SharedSearch | None
) -> tuple[list[Ranked], list[Ranked]]:
    def run(arm: SharedSearch | None) -> list[Ranked]:
        if arm is None:
            return []
        arm.run()
        return arm.rank()

    assert isinstance(task.options, RandomWsOptions)
    at_once = distributed.size() == 1 and uses_one_thread(task.splits.train, task.options.weights)
    return run_pair(lambda: run(method), lambda: run(control), at_once=at_once)


def _finals(
    task: SearchContext,
    method: SharedSearch,
    control: SharedSearch | None,
    ranking: Sequence[Ranked],
    others: Sequence[Ranked],
) -> SearchResult:
    """The best of each ranking from scratch, in its order, as children of a study."""
    assert isinstance(task.options, RandomWsOptions)
    budget = task.search.budget
    if budget.unit == "steps":
        budget = BudgetConfig(children=task.options.num_finalists)
    finals = dataclasses.replace(
        task,
        search=task.search.model_copy(update={"budget": budget}),
        is_secondary_worker=task.is_secondary_worker or not distributed.is_first(),
    )
    return search_by_proposing(
        finals,
        Finalists(ranking, task.space, task.seeds, "method"),
        None
        if control is None
        else Control(
            Finalists(others, task.space, task.seeds, "control"),
            method="random-ws",
            display_name="random search with shared weights",
            prior_cost_s=control.seconds,
        ),
        prior_cost_s=method.seconds,
        compared=1.0,
    )


class Finalists:
    """Proposes what a ranking holds, the best first; uniform architectures when it has ended."""

    def __init__(
        self, ranking: Sequence[Ranked], space: SearchSpace, seeds: Seeds, stream: str
    ) -> None:
        self._ranking, self._space, self._seeds, self._stream = ranking, space, seeds, stream

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        if number < len(self._ranking):
            return self._ranking[number].genotype
        return base.sample(self._space, self._seeds.numpy(self._stream, "finalist", number))

    def update(self, child: Child) -> None:
        """A ranking is not changed by what comes of it."""


def _best_so_far(task: SearchContext, first: Ranked, method: SharedSearch) -> SearchResult:
    """What a search that was told to stop has: its first by shared weights, nothing compared."""
    objective = task.search.objective
    is_accuracy = objective == "accuracy"
    return SearchResult(
        method=task.method,
        seed=task.seeds.seed,
        genotype=first.genotype,
        valid_accuracy=first.score
        if is_accuracy
        else method.accuracies([first.genotype], hasty=True)[0],
        objective=objective,
        valid_score=None if is_accuracy else first.score,
        arm=Arm(task.method, (), method.seconds),
        control=None,
        verdict=None,
        versions=versions(),
    )


def train_final(task: SearchContext, result: SearchResult) -> FinalModel:
    return train_from_scratch(task, result)
