"""Step 2 of retraining: the drift of the data, and whether a new architecture is searched."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from mlflow import MlflowClient

from components.config.schema import Config
from components.config.settings import RetrainConfig
from components.registry.aliases import champion_of
from components.registry.champion_check import Fault, Task, find_fault
from components.registry.lookup import answer_of, open_registry, run_is_gone
from components.registry.task_schema import model_name
from components.steps.champion import call_registry, refuse_unless_replaced
from components.steps.context_builder import load_splits
from components.steps.runtime import Step, execute, read_config
from components.steps.state import read_json, write_json
from components.steps.tracked_result import PROFILE, SEARCH_RESULT
from components.tracking import lineage
from nascore.config import OBJECTIVES
from nascore.data.drift import DataProfile, Drift, drift, profile
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError
from nascore.methods.registry import METHODS
from nascore.results import SearchResult
from nascore.spaces.base import make_space

VERSION = 1
_DAY_S = 86_400.0

Plan = Literal["search", "reuse"]
Parsed = TypeVar("Parsed", DataProfile, SearchResult)


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """What the pipeline does next, and the scalars of the step."""

    plan: Plan
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Champion:
    """The present champion.

    Attributes:
        profile: profile of the data of its run; None if the run has not saved it.
        search: search result of its run; None if the run has not saved one of this version.
        refusal: why its run cannot be read with this account; empty if it can, or is gone.
    """

    version: str
    run_id: str
    age_days: float
    profile: DataProfile | None
    search: SearchResult | None
    refusal: str = ""


def run(*, run_key: str, dataset: Path, review: Path) -> ReviewOutcome:
    """Write `review` (JSON): plan and reason, drift, and the search that found the champion.

    Raises:
        InputError: the champion cannot be used, for instance since the classes have changed, and
            `registry.unusable_champion` does not let a new model replace it.
        ServiceUnavailable: the registry does not answer.
    """
    config = read_config(dataset)

    def work(step: Step) -> dict[str, float]:
        splits = load_splits(step, dataset)
        champion, fault = call_registry(
            config,
            lambda: (_champion(config), _fault(config, splits.info)),
            say=lambda text: step.progress("note", text=text),
        )
        change = None
        if champion is not None and champion.profile is not None:
            change = drift(champion.profile, profile(splits))
            fault = fault or _other_data(champion, change)
        if fault is not None:
            refuse_unless_replaced(config, fault, retrains=True)
            step.parent.tags({"nas.unusable_champion": str(fault)})
            step.progress("note", text=f"{fault}; the new model replaces it if it passes the gates")
        plan, reason = _plan(config, champion, change, fault)
        write_json(review, _content(plan, reason, champion, change, fault))
        step.parent.tags({"nas.plan": plan, "nas.plan_reason": reason})
        if champion is not None:
            step.parent.tags({lineage.CHAMPION_RUN_ID: champion.run_id})
        step.tracked.artifact(review)
        step.progress("note", text=f"{reason}: {_NEXT[plan]}")
        return _metrics(plan, change)

    metrics = execute(
        "review",
        work,
        run_key=run_key,
        config=config,
        inputs={"dataset": dataset},
        outputs={"review": review},
    )
    return ReviewOutcome(read_json(review)["plan"], metrics)


_REFUSED = (
    "MLflow refuses this account the run of champion {version} ({run_id}): give it the right to "
    "read the experiment of that run, if the run still exists"
)
_NEXT = {
    "search": "a new architecture is searched",
    "reuse": "its architecture is trained on the new data",
}


def _content(
    plan: Plan,
    reason: str,
    champion: _Champion | None,
    change: Drift | None,
    fault: Fault | None,
) -> dict[str, Any]:
    search = None
    if plan == "reuse" and champion is not None and champion.search is not None:
        search = champion.search.to_dict()
    return {
        "version": VERSION,
        "plan": plan,
        "reason": reason,
        "champion_version": None if champion is None else champion.version,
        "champion_run_id": None if champion is None else champion.run_id,
        "champion_age_days": None if champion is None else champion.age_days,
        "unusable_champion": None if fault is None else str(fault),
        "drift": None if change is None else change.to_dict(),
        "search": search,
    }


def _metrics(plan: Plan, change: Drift | None) -> dict[str, float]:
    metrics = {"searches": float(plan == "search")}
    if change is not None and not change.schema:
        metrics = {"class_drift": change.classes, "value_drift": change.values} | metrics
    return metrics


def _champion(settings: Config) -> _Champion | None:
    uri = settings.tracking.uri
    version = champion_of(model_name(settings), uri=uri)
    if version is None:
        return None
    client = open_registry(uri)
    described, search, refusal = None, None, ""
    try:
        with TemporaryDirectory() as folder:
            described = _read(
                client, version.run_id, f"data/{PROFILE}", folder, DataProfile.from_dict
            )
            search = _read(
                client, version.run_id, f"result/{SEARCH_RESULT}", folder, SearchResult.from_dict
            )
    except Exception as error:  # MLflow, requests and boto3 have no common class of errors
        if not run_is_gone(client, version, error):
            if getattr(error, "error_code", None) != "PERMISSION_DENIED":
                raise
            refusal = _REFUSED.format(version=version.version, run_id=version.run_id)
    return _Champion(
        version=str(version.version),
        run_id=version.run_id,
        age_days=(time.time() - version.creation_timestamp / 1000) / _DAY_S,
        profile=described,
        search=search,
        refusal=refusal,
    )


def _read(
    client: MlflowClient,
    run_id: str,
    artifact: str,
    folder: str,
    parse: Callable[[dict[str, Any]], Parsed],
) -> Parsed | None:
    """Return the content of a JSON file of a run; None without such a run, file or version."""
    parent = artifact.rpartition("/")[0]
    files = answer_of(lambda: client.list_artifacts(run_id, parent)) or []
    if artifact not in [file.path for file in files]:
        return None
    path = Path(client.download_artifacts(run_id, artifact, folder))
    with contextlib.suppress(ValueError, InputError):  # damaged, or of another version
        content = read_json(path)
        return parse(content) if isinstance(content, dict) else None
    return None


def _fault(settings: Config, info: DatasetInfo) -> Fault | None:
    uri = settings.tracking.uri
    return find_fault(model_name(settings), uri=uri, task=Task.of_data(info))


def _other_data(champion: _Champion, change: Drift) -> Fault | None:
    """Return the fault of a champion whose version does not say what its task is."""
    if not change.schema:
        return None
    return Fault(champion.version, "task", f"has other data: {'; '.join(change.schema)}")


def _plan(
    settings: Config,
    champion: _Champion | None,
    change: Drift | None,
    fault: Fault | None = None,
) -> tuple[Plan, str]:
    """Return what to do, and the reason: the first reason to search that applies."""
    retrain: RetrainConfig = settings.retrain
    if fault is not None and (champion is None or fault.kind == "task"):
        return "search", str(fault)
    if champion is None:
        return "search", "there is no champion yet"
    name = f"champion {champion.version}"
    if champion.refusal:
        return "search", champion.refusal
    if champion.search is None or champion.profile is None or change is None:
        return "search", f"the run of {name} has no search and no profile of its data (any more)"
    if champion.search.reference is None:  # a standard network is of no method and no space
        if reason := METHODS[settings.method].new_search_reason:
            return "search", f"{settings.method} {reason}"
        if champion.search.genotype.space != make_space(settings.search.space).identifier:
            return "search", f"the architecture of {name} is of another search space"
    if champion.search.objective != settings.search.objective:
        chosen_by = OBJECTIVES[champion.search.objective]
        return "search", f"the architecture of {name} was chosen by its {chosen_by}"
    if retrain.max_age_days is not None and champion.age_days > retrain.max_age_days:
        limit = f"{retrain.max_age_days:g} days"
        return "search", f"{name} is {champion.age_days:.1f} days old, more than {limit}"
    drifted = f"the data drifted by {change.largest:.3f} since {name}"
    if change.largest > retrain.max_drift:
        return "search", f"{drifted}, more than {retrain.max_drift:g}"
    since = datetime.fromtimestamp(time.time() - champion.age_days * _DAY_S, UTC)
    return "reuse", f"{drifted} of {since:%Y-%m-%d}, at most {retrain.max_drift:g}"
