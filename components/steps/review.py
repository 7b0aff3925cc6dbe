"""Step 2 of retraining: how new data differs from the champion's, and whether to search anew."""

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from mlflow import MlflowClient

from components.config.schema import Config
from components.config.settings import RetrainConfig
from components.registry.aliases import champion_of
from components.steps.promote import PROFILE, SEARCH_RESULT
from components.steps.runtime import Step, execute, read_config
from components.steps.s3_source import open_remote
from components.steps.state import read_json, write_json
from components.tracking import lineage
from nascore.config import OBJECTIVES
from nascore.data.batches import load
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
class Reviewed:
    """What the pipeline does next, and the step's scalars."""

    plan: Plan
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Champion:
    """What is known of the present champion.

    Attributes:
        profile, search: of the run that made it; None when that run did not keep them.
    """

    version: str
    run_id: str
    age_days: float
    profile: DataProfile | None
    search: SearchResult | None


def run(*, run_key: str, dataset: Path, review: Path) -> Reviewed:
    """Writes `review` (JSON): the plan and why, the drift, and the search that found the champion.

    Raises:
        InputError: the classes or the form of the images have changed, so that the champion and a
            new model could not be compared.
    """
    settings = read_config(dataset)

    def work(step: Step) -> dict[str, float]:
        with step.busy("data"):
            remote = open_remote(settings.data, trusted=True)
            now = profile(load(dataset, torch.device("cpu"), remote))
        champion = _champion(settings)
        moved = None
        if champion is not None and champion.profile is not None:
            moved = drift(champion.profile, now)
        _check_schema(settings, moved)
        plan, reason = _plan(settings, champion, moved)
        outcome = {
            "version": VERSION,
            "plan": plan,
            "reason": reason,
            "champion_version": None if champion is None else champion.version,
            "champion_run_id": None if champion is None else champion.run_id,
            "champion_age_days": None if champion is None else champion.age_days,
            "drift": None if moved is None else moved.to_dict(),
            "search": _search_of(champion) if plan == "reuse" else None,
        }
        write_json(review, outcome)
        step.parent.tags({"nas.plan": plan, "nas.plan_reason": reason})
        if champion is not None:
            step.parent.tags({lineage.CHAMPION_RUN_ID: champion.run_id})
        step.tracked.artifact(review)
        step.progress("note", text=f"{reason}: {_SAID[plan]}")
        measured = {} if moved is None else {"class": moved.classes, "value": moved.values}
        metrics = {f"{name}_drift": value for name, value in measured.items()}
        return metrics | {"searches": float(plan == "search")}

    metrics = execute(
        "review",
        work,
        run_key=run_key,
        config=settings,
        inputs={"dataset": dataset},
        outputs={"review": review},
    )
    return Reviewed(read_json(review)["plan"], metrics)


_SAID = {"search": "an architecture is searched", "reuse": "its architecture is trained anew"}


def _champion(settings: Config) -> _Champion | None:
    uri = settings.tracking.uri
    version = champion_of(settings.promote.model_name, uri=uri)
    if version is None:
        return None
    client = MlflowClient(tracking_uri=uri)
    with TemporaryDirectory() as folder:
        kept = _read(client, version.run_id, f"data/{PROFILE}", folder)
        found = _read(client, version.run_id, f"result/{SEARCH_RESULT}", folder)
    search = None
    if found is not None:
        with contextlib.suppress(InputError):  # of another version: a new search replaces it
            search = SearchResult.from_dict(found)
    return _Champion(
        version=str(version.version),
        run_id=version.run_id,
        age_days=(time.time() - version.creation_timestamp / 1000) / _DAY_S,
        profile=None if kept is None else DataProfile.from_dict(kept),
        search=search,
    )


def _read(client: MlflowClient, run_id: str, artifact: str, folder: str) -> dict[str, Any] | None:
    """None when the run has no such file."""
    parent = artifact.rpartition("/")[0]
    if artifact not in {one.path for one in client.list_artifacts(run_id, parent)}:
        return None
    return read_json(Path(client.download_artifacts(run_id, artifact, folder)))


def _check_schema(settings: Config, moved: Drift | None) -> None:
    if moved is None or not moved.schema:
        return
    raise InputError.of(
        "data.source",
        redact(settings.data.source),
        f"does not fit the champion of {settings.promote.model_name}: {'; '.join(moved.schema)}; "
        "a model for other data needs another promote.model_name and a search of its own",
    )


def _plan(settings: Config, champion: _Champion | None, moved: Drift | None) -> tuple[Plan, str]:
    """What to do and why; the first reason to search that applies."""
    retrain: RetrainConfig = settings.retrain
    if champion is None:
        return "search", "there is no champion yet"
    name = f"champion {champion.version}"
    if champion.search is None or champion.profile is None or moved is None:
        return "search", f"the run of {name} kept neither its search nor its data's profile"
    if METHODS[settings.method].keeps_weights:
        return "search", f"{settings.method} trains on what its search has trained"
    if champion.search.genotype.space != make_space(settings.search.space).identifier:
        return "search", f"the architecture of {name} is of another search space"
    if champion.search.objective != settings.search.objective:
        chosen_by = OBJECTIVES[champion.search.objective]
        return "search", f"the architecture of {name} was chosen by its {chosen_by}"
    if retrain.max_age_days is not None and champion.age_days > retrain.max_age_days:
        limit = f"{retrain.max_age_days:g} days"
        return "search", f"{name} is {champion.age_days:.1f} days old, more than {limit}"
    told = f"the data drifted by {moved.largest:.3f} since {name}"
    if moved.largest > retrain.max_drift:
        return "search", f"{told}, more than {retrain.max_drift:g}"
    since = datetime.fromtimestamp(time.time() - champion.age_days * _DAY_S, UTC)
    return "reuse", f"{told} of {since:%Y-%m-%d}, at most {retrain.max_drift:g}"


def _search_of(champion: _Champion | None) -> dict[str, Any] | None:
    return None if champion is None or champion.search is None else champion.search.to_dict()
