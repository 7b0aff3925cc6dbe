"""Step 2 of retraining: the drift of the data, and whether a new architecture is searched."""

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from mlflow import MlflowClient

from components.config.schema import Config
from components.config.settings import RetrainConfig
from components.registry.aliases import champion_of
from components.registry.task_schema import model_name
from components.steps.context_builder import load_splits
from components.steps.runtime import Step, execute, read_config
from components.steps.state import read_json, write_json
from components.steps.tracked_result import PROFILE, SEARCH_RESULT
from components.tracking import lineage
from nascore.config import OBJECTIVES
from nascore.data.drift import DataProfile, Drift, drift, profile
from nascore.errors import InputError
from nascore.methods.registry import METHODS
from nascore.redaction import redact
from nascore.results import SearchResult
from nascore.spaces.base import make_space

VERSION = 1
_DAY_S = 86_400.0

Plan = Literal["search", "reuse"]


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
    """

    version: str
    run_id: str
    age_days: float
    profile: DataProfile | None
    search: SearchResult | None


def run(*, run_key: str, dataset: Path, review: Path) -> ReviewOutcome:
    """Write `review` (JSON): plan and reason, drift, and the search that found the champion.

    Raises:
        InputError: the classes or the shape of the images have changed, so that the champion and a
            new model could not be compared.
    """
    config = read_config(dataset)

    def work(step: Step) -> dict[str, float]:
        present = profile(load_splits(step, dataset))
        champion = _champion(config)
        change = None
        if champion is not None and champion.profile is not None:
            change = drift(champion.profile, present)
        _check_schema(config, change)
        plan, reason = _plan(config, champion, change)
        write_json(review, _content(plan, reason, champion, change))
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


_NEXT = {
    "search": "a new architecture is searched",
    "reuse": "its architecture is trained on the new data",
}


def _content(
    plan: Plan, reason: str, champion: _Champion | None, change: Drift | None
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
        "drift": None if change is None else change.to_dict(),
        "search": search,
    }


def _metrics(plan: Plan, change: Drift | None) -> dict[str, float]:
    metrics = {"searches": float(plan == "search")}
    if change is not None:
        metrics = {"class_drift": change.classes, "value_drift": change.values} | metrics
    return metrics


def _champion(settings: Config) -> _Champion | None:
    uri = settings.tracking.uri
    version = champion_of(model_name(settings), uri=uri)
    if version is None:
        return None
    client = MlflowClient(tracking_uri=uri)
    with TemporaryDirectory() as folder:
        described = _read(client, version.run_id, f"data/{PROFILE}", folder)
        found = _read(client, version.run_id, f"result/{SEARCH_RESULT}", folder)
    search = None
    if found is not None:
        with contextlib.suppress(InputError):  # of another version: a new search replaces it
            search = SearchResult.from_dict(found)
    return _Champion(
        version=str(version.version),
        run_id=version.run_id,
        age_days=(time.time() - version.creation_timestamp / 1000) / _DAY_S,
        profile=None if described is None else DataProfile.from_dict(described),
        search=search,
    )


def _read(client: MlflowClient, run_id: str, artifact: str, folder: str) -> dict[str, Any] | None:
    """Return a JSON file of a run; None if the run has no such file."""
    parent = artifact.rpartition("/")[0]
    if artifact not in {file.path for file in client.list_artifacts(run_id, parent)}:
        return None
    return read_json(Path(client.download_artifacts(run_id, artifact, folder)))


def _check_schema(settings: Config, change: Drift | None) -> None:
    if change is None or not change.schema:
        return
    raise InputError.of(
        "data.source",
        redact(settings.data.source),
        f"does not fit the champion of {model_name(settings)}: {'; '.join(change.schema)}; "
        "a model for other data needs another registry.model and a search of its own",
    )


def _plan(settings: Config, champion: _Champion | None, change: Drift | None) -> tuple[Plan, str]:
    """Return what to do, and the reason: the first reason to search that applies."""
    retrain: RetrainConfig = settings.retrain
    if champion is None:
        return "search", "there is no champion yet"
    name = f"champion {champion.version}"
    if champion.search is None or champion.profile is None or change is None:
        return "search", f"the run of {name} has not saved its search and the profile of its data"
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
