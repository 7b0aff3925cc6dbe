"""Step 1, cheap and first to find bad input: settle the configuration, check and split the data."""

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.config.class_needs import unfit_for_classes
from components.config.merge import apply_overrides, read_mapping
from components.config.schema import Config, parse, shown, unfit_for_size
from components.export.manifest import check_outputs
from components.object_store.outputs import open_outputs
from components.run_identity import run_key
from components.run_state.checks import check_state
from components.steps.close_run import close_ended_runs
from components.steps.runtime import Step, execute, telling_input_errors
from components.steps.s3_source import open_remote
from components.steps.state import read_json, state_folder, write_json
from components.steps.study_checks import check_studies
from components.tracking import check_store, lineage
from components.variables import STATE_ROOT
from nascore.data.class_folders import Need
from nascore.data.prepared import DatasetInfo, prepare
from nascore.errors import InputError, collect_problems, error_of
from nascore.methods.registry import METHODS

_KEY = "run_key.json"


@dataclass(frozen=True, slots=True)
class PreparedData:
    """The key by which tracking knows this pipeline run, and the step's scalars."""

    run_key: str
    metrics: dict[str, float]


def run(
    *,
    config: str,
    overrides: str,
    job_name: str,
    searches: bool,
    resolved_config: Path,
    dataset: Path,
) -> PreparedData:
    """Prepares the data of a run.

    Args:
        config: the whole configuration as JSON.
        overrides: further `key.path=value` settings, separated by spaces, quoted as in a shell.
        job_name: name of the KFP run; becomes a tag.
        searches: whether a search is sure to follow; then its study is looked at, too.
        resolved_config: where the configuration that counts is written.
        dataset: folder that is written; see docs/architecture.md.

    Raises:
        InputError: settings or data are wrong; every problem is listed.
    """
    with telling_input_errors("prepare_data"):
        settings = _resolve(config, overrides)
        _check_stores(settings)
    key = _run_key()

    def work(step: Step) -> dict[str, float]:
        with step.busy("data"):
            remote = open_remote(settings.data)
            info = prepare(
                settings.data,
                settings.seed,
                dataset,
                remote=remote,
                needs=needs_of(settings),
            )
        for warning in info.warnings:
            step.progress("note", text=f"data: {warning['message']}")
        _check_fit(settings, info, searches=searches)
        if run_key() is not None:
            close_ended_runs(settings)
        write_json(resolved_config, settings.model_dump(mode="json"))
        tags = lineage.of_run(
            settings,
            data_sha256=info.data_sha256,
            source_sha256=None if remote is None else remote.fingerprint().sha256,
            job_name=job_name,
        )
        write_json(dataset / lineage.FILE, tags)
        step.parent.tags(tags)
        if remote is not None and not info.streamed:
            remote.remove_copies()
        _track_config(step, settings)
        step.tracked.artifact(dataset / "dataset.json")
        write_json(dataset / "step.json", step.timing())
        return {
            "num_images": float(info.num_images),
            "num_classes": float(len(info.classes)),
        }

    metrics = execute(
        "prepare_data",
        work,
        run_key=key,
        config=settings,
        inputs={},
        outputs={"config": resolved_config, "dataset": dataset},
    )
    return PreparedData(key, metrics)


def _resolve(config: str, overrides: str) -> Config:
    return parse(apply_overrides(read_mapping(config, "config"), overrides))


def _track_config(step: Step, settings: Config) -> None:
    visible = shown(settings)
    step.parent.params(visible)
    path = step.state / "config.json"
    write_json(path, visible)
    step.parent.artifact(path, "config")


def _check_stores(settings: Config) -> None:
    """Raises InputError when the tracking store, the study's database or the outputs refuse us.

    A tracking server that is away is no reason to wait: its follower says so.
    """
    problems, _ = check_store(settings.tracking.uri)
    errors = [InputError(problems)] if problems else []
    for check in (_check_study, _check_state, _check_outputs):
        try:
            check(settings)
        except InputError as error:
            errors.append(error)
    if errors:
        raise error_of(errors)


def _check_study(settings: Config) -> None:
    if settings.search.storage is not None:
        from nascore.search.study_storage import (  # Optuna and SQLAlchemy: half a second
            Storage,
            resolve_url,
        )

        Storage(resolve_url(settings.search.storage)).close()


def _check_state(settings: Config) -> None:
    root = os.environ.get(STATE_ROOT)
    if root is not None:
        check_state(root)


def _check_outputs(settings: Config) -> None:
    if settings.promote.export_to is not None:
        check_outputs(open_outputs(settings.promote.export_to), settings.promote.model_name)


def needs_of(settings: Config) -> Sequence[Need]:
    """Tasks that the method draws, if it is one that learns from tasks."""
    options = METHODS[settings.method].options.model_validate(settings.search.options)
    return options.needs


def _check_fit(settings: Config, info: DatasetInfo, *, searches: bool) -> None:
    """Raises InputError when the settings do not suit what the data has turned out to be."""
    told = f"the images, which have {info.size} pixels a side"
    problems = [] if settings.data.image_size else unfit_for_size(settings, info.size, told)
    problems += unfit_for_classes(settings, info)
    if searches:
        with collect_problems(problems):
            check_studies(settings, info.data_sha256)
    if problems:
        raise InputError(problems)


def _run_key() -> str:
    """New for every pipeline run, and the same when that run is tried again."""
    given = run_key()
    if given is not None:
        return given
    path = state_folder() / _KEY
    if path.exists():
        return str(read_json(path)["run_key"])
    key = uuid.uuid4().hex
    write_json(path, {"run_key": key})
    return key
