"""Search by proposals: the method and its control at equal cost, and the verdict."""

import contextlib
from dataclasses import dataclass

from nascore.config import OBJECTIVES
from nascore.context import SearchContext
from nascore.evaluation.verdict import TOP_FRACTION, compare
from nascore.results import Arm, SearchResult, best_child, pareto_front
from nascore.search.database_url import file_url, resolve_url
from nascore.search.proposer import Proposer
from nascore.search.pruning import make_pruner
from nascore.search.random_search import RandomSearch
from nascore.search.study import Study
from nascore.search.study_identity import evaluation_settings, identity, study_name
from nascore.search.study_storage import Storage
from nascore.search.worker import Worker
from nascore.training.child import ChildTraining, ImageTraining
from nascore.training.parallel_arms import run_pair
from nascore.versions import versions


class SearchFailed(Exception):
    """No child finished, so there is no architecture to return."""


@dataclass(frozen=True, slots=True)
class Control:
    """The search that a method is compared with, at equal cost.

    Attributes:
        method: its name; must be that of the method's entry in `nascore.methods.registry.METHODS`.
        display_name: its name in sentences.
        prior_cost_s: seconds that it spent before its first child.
    """

    proposer: Proposer
    method: str = "random"
    display_name: str = "random search"
    prior_cost_s: float = 0.0


def search_by_proposing(
    context: SearchContext,
    proposer: Proposer,
    control: Control | None,
    *,
    training: ChildTraining | None = None,
    prior_cost_s: float = 0.0,
    compared: float = TOP_FRACTION,
) -> SearchResult:
    """Search with the method and with its control at equal cost, and compare the two.

    Both arms have the same budget, in the same unit. With one of time, what an arm spent before its
    first child is part of it. Arms of a single worker whose trainings use one thread each run at
    the same time where there are cores for both, else one after the other.

    Args:
        training: of the children of both arms; `ImageTraining` when not given.
        prior_cost_s: seconds that the method spent before its first child.
        compared: fraction of the children, the best ones, that the verdict compares.

    Raises:
        SearchFailed: no child of the method finished.
        ServiceUnavailable: the database of the study did not answer for too long.
    """
    with contextlib.closing(_open_storage(context)) as storage:
        arm, other = _run_arms(
            context, proposer, control, storage, training or ImageTraining(), prior_cost_s
        )
    verdict = None
    if control is not None and other is not None:
        verdict = _verdict(context, arm, other, control.display_name, compared)
    return _result(context, arm, other, verdict)


def search_against_random(
    context: SearchContext,
    proposer: Proposer,
    *,
    training: ChildTraining | None = None,
    prior_cost_s: float = 0.0,
) -> SearchResult:
    """Search with a random search of the same space as control, if `search.control` is on.

    See `search_by_proposing` for arguments and errors.
    """
    control = None
    if context.search.control:
        control = Control(RandomSearch(context.space, context.seeds, "control"))
    return search_by_proposing(
        context, proposer, control, training=training, prior_cost_s=prior_cost_s
    )


def _open_storage(context: SearchContext) -> Storage:
    search = context.search
    return Storage(
        file_url(context.state / "study.db")
        if search.storage is None
        else resolve_url(search.storage),
        worker_timeout_s=search.worker_timeout_s,
        should_stop=context.callbacks.should_stop,
    )


def _run_arms(
    context: SearchContext,
    proposer: Proposer,
    control: Control | None,
    storage: Storage,
    training: ChildTraining,
    prior_cost_s: float,
) -> tuple[Arm, Arm | None]:
    search = context.search
    pruner = make_pruner(search.pruner, search.child.epochs)
    # Opened one after the other: two arms must not create the tables of a new file at once.
    arms = {"method": context.method} | ({} if control is None else {"control": control.method})
    studies = {
        arm: Study(
            storage,
            study_name(search, context.run_key, arm),
            _identity(context, method),
            pruner=pruner,
        )
        for arm, method in arms.items()
    }
    is_timed = search.budget.unit in ("seconds", "gpu_hours")

    def run(arm: str, proposer: Proposer, prior_cost_s: float) -> Arm:
        return Worker(
            context,
            arm,
            proposer,
            study=studies[arm],
            training=training,
            prior_cost_s=prior_cost_s,
            charge_budget=is_timed,
        ).run()

    return run_pair(
        lambda: run("method", proposer, prior_cost_s),
        lambda: None if control is None else run("control", control.proposer, control.prior_cost_s),
        at_once=search.workers == 1
        and context.training.devices == 1
        and training.uses_one_thread(context),
    )


def _result(
    context: SearchContext, arm: Arm, control: Arm | None, verdict: dict[str, object] | None
) -> SearchResult:
    best = best_child(arm.children)
    if best is None or best.scores is None:
        reasons = sorted({child.failure for child in arm.children if child.failure})
        listed = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" * (len(reasons) > 3))
        raise SearchFailed(
            f"none of {len(arm.children)} children finished: {listed or 'stopped before the first'}"
        )
    return SearchResult(
        method=context.method,
        seed=context.seeds.seed,
        genotype=best.genotype,
        valid_accuracy=best.scores.valid_accuracy,
        objective=context.search.objective,
        valid_score=best.scores.valid_score,
        arm=arm,
        control=control,
        verdict=verdict,
        cost_metric="num_params" if context.search.cost is None else context.search.cost.metric,
        pareto=pareto_front(arm.children),
        versions=versions(),
    )


def _verdict(
    context: SearchContext, arm: Arm, control: Arm, control_name: str, compared: float
) -> dict[str, object]:
    objectives, others = ([child.objective for child in one.children] for one in (arm, control))
    rng = context.seeds.numpy("verdict")
    name = arm.method
    if arm.method == control.method:  # the difference is chance
        name, control_name = "this random search", "a second one"
    return compare(
        objectives,
        others,
        rng=rng,
        name=name,
        control_name=control_name,
        top_fraction=compared,
        figure=OBJECTIVES[context.search.objective],
    ).to_dict()


def _identity(context: SearchContext, method: str) -> dict[str, object]:
    return identity(
        method,
        options=context.options if method == context.method else None,
        evaluation=evaluation_settings(context.options),
        space=context.space.identifier,
        seed=context.seeds.seed,
        data_sha256=context.splits.info.data_sha256,
        search=context.search,
        objective=context.objective_settings(),
    )
