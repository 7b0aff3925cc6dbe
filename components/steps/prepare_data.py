"""Step 1: resolve the configuration, check and split the data; finds bad input at low cost."""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from components.config.class_needs import unfit_for_classes
from components.config.consistency import unfit_for_size
from components.config.parameter_values import naming_parameters, resolve
from components.config.schema import Config, shown
from components.export.manifest import check_model, check_outputs
from components.object_store.outputs import open_outputs
from components.registry import task_schema
from components.run_identity import run_key
from components.run_state.checks import check_state
from components.steps.champion import check_champion, check_default_name, warn_of_new_name
from components.steps.close_run import close_ended_runs
from components.steps.compiled import Compiled, write_run
from components.steps.int8_check import check_packages
from components.steps.runtime import Step, execute, report_input_errors
from components.steps.s3_source import open_remote
from components.steps.state import CONFIG, read_json, state_folder, write_json
from components.steps.study_checks import check_studies
from components.steps.transfer import check_transfer
from components.tracking import check_store, lineage
from components.tracking.datasets import inputs_of
from components.tracking.experiments import with_active_experiment
from components.tracking.run_description import NOTE, start_note
from components.variables import STATE_ROOT
from nascore.data.class_splits import Need
from nascore.data.prepared import DatasetInfo, prepare
from nascore.errors import InputError, Problem, collect_problems, error_of

_KEY = "run_key.json"


def run(
    *,
    config: str,
    compiled: Compiled,
    parameters: Mapping[str, str],
    job_name: str,
    dataset: Path,
) -> dict[str, float]:
    """Prepare the data of a run, and resolve its configuration.

    Args:
        config: the configuration with which the pipeline was compiled, as JSON.
        compiled: what else is compiled in, and what it allows.
        parameters: parameters of the run by name; an empty one changes nothing.
        job_name: name of the KFP run; becomes a tag.
        dataset: folder to write, the resolved configuration included; see docs/architecture.md.

    Returns:
        Numbers of images and classes.

    Raises:
        InputError: settings or data are wrong; every problem is listed, with the name of the
            parameter that set it.
    """
    with report_input_errors("prepare_data"):
        settings = resolve(config, parameters)
        with naming_parameters(parameters):
            division = compiled.division(settings)
            settings, notes = with_active_experiment(settings)
            warnings = [*notes, *_check_stores(settings)]
    key = _run_key()

    def work(step: Step) -> dict[str, float]:
        with naming_parameters(parameters):
            for warning in warnings:
                step.progress("note", text=warning)
            return _prepare(step, dataset, job_name=job_name, searches=compiled.searches)

    metrics = execute(
        "prepare_data",
        work,
        run_key=key,
        config=settings,
        inputs={},
        outputs={"dataset": dataset},
    )
    write_run(
        dataset,
        run_key=key,
        division=division,
        store_warnings=warnings,
        retrains=not compiled.searches,
    )
    return metrics


def _prepare(step: Step, dataset: Path, *, job_name: str, searches: bool) -> dict[str, float]:
    settings = step.config
    with step.busy("data"):
        remote = open_remote(settings)
        info = prepare(
            settings.data, settings.seed, dataset, remote=remote, needs=needs_of(settings)
        )
    for warning in info.warnings:
        step.progress("note", text=f"data: {warning['message']}")
    _check_fit(settings, info, searches=searches)
    state = step.state
    settings = check_transfer(settings, info, dataset, state=state, say=_sayer(step))
    has_name = settings.registry.model is not None
    settings = step.config = _with_model_name(settings, info)

    say = _sayer(step)
    check_champion(settings, info, retrains=not searches, say=say)
    if not searches:
        check_name = warn_of_new_name if has_name else check_default_name
        check_name(settings, info, say=say)
    if run_key() is not None:
        close_ended_runs(settings)
    write_json(dataset / CONFIG, settings.model_dump(mode="json"))
    tags = lineage.of_run(
        settings,
        data_sha256=info.data_sha256,
        source_sha256=None if remote is None else remote.listing_sha256(),
        job_name=job_name,
    )
    tags[task_schema.TAG] = task_schema.schema_hash(info)
    _track(step, tags, dataset, info)
    if remote is not None and not info.streamed:
        remote.remove_copies()
    write_json(dataset / "step.json", step.timing())
    return {"num_images": float(info.num_images), "num_classes": float(len(info.classes))}


def _sayer(step: Step) -> Callable[[str], None]:
    return lambda text: step.progress("note", text=text)


def _with_model_name(settings: Config, info: DatasetInfo) -> Config:
    """Return the configuration with the name of the registered model, which may depend on the data.

    Raises:
        InputError: the place of the exported files belongs to another model.
    """
    named = task_schema.with_model_name(settings, info)
    if settings.registry.model is None and settings.promote.export_to is not None:
        check_model(open_outputs(settings.promote.export_to), task_schema.model_name(named))
    return named


def _track(step: Step, tags: Mapping[str, str], dataset: Path, info: DatasetInfo) -> None:
    """Log lineage, configuration and description of the data to the MLflow runs."""
    write_json(dataset / lineage.FILE, tags)
    step.parent.tags({**tags, NOTE: start_note(step.config, info)})
    for run in (step.parent, step.tracked):
        run.inputs(inputs_of(info))
    visible = shown(step.config)
    step.parent.params(visible)
    path = step.state / CONFIG
    write_json(path, visible)
    step.parent.artifact(path, "config")
    step.tracked.artifact(dataset / "dataset.json")


def _check_stores(settings: Config) -> list[str]:
    """Check the tracking store, the database of the study, and the places of state and outputs.

    A tracking server that is unreachable is no error here: the process that sends the events
    reports it and retries.

    Returns:
        Warnings about the places of state and outputs.

    Raises:
        InputError: one of them refuses this account, or cannot be what the setting names.
    """
    problems, _ = check_store(
        settings.tracking.uri,
        settings.tracking.experiment,
        writes=run_key() is not None,  # on one machine the command has tried it
        model=settings.registry.model,
    )
    errors = [InputError(problems)] if problems else []
    warnings = []
    for check in (_check_study, _check_state, _check_outputs, check_packages):
        try:
            warnings.append(check(settings))
        except InputError as error:
            errors.append(error)
    if errors:
        raise error_of(errors)
    return sorted({warning for warning in warnings if warning})


def _check_study(settings: Config) -> str:
    if settings.search.storage is not None:
        from nascore.search.database_url import resolve_url  # Optuna and SQLAlchemy: half a second
        from nascore.search.study_storage import Storage

        Storage(resolve_url(settings.search.storage)).close()
    return ""


def _check_state(settings: Config) -> str:
    root = os.environ.get(STATE_ROOT)
    return "" if root is None else check_state(root)


def _check_outputs(settings: Config) -> str:
    root = settings.promote.export_to
    return "" if root is None else check_outputs(open_outputs(root), settings.registry.model)


def needs_of(settings: Config) -> Sequence[Need]:
    """Return what few-shot tasks the method draws; empty for methods without tasks."""
    options = settings.search.options
    return options.needs


def _check_fit(settings: Config, info: DatasetInfo, *, searches: bool) -> None:
    """Check the settings against the size, the classes and the splits of the data.

    Raises:
        InputError: they do not fit; every problem is listed.
    """
    images = f"the images, which have {info.size} pixels a side"
    problems = [] if settings.data.image_size else unfit_for_size(settings, info.size, images)
    problems += unfit_for_classes(settings, info)
    if searches:
        problems += _unfit_references(settings, info)
        with collect_problems(problems):
            check_studies(settings, info.data_sha256)
    if problems:
        raise InputError(problems)


def _unfit_references(settings: Config, info: DatasetInfo) -> list[Problem]:
    """Return a problem if networks of `reference` are unknown or do not take the images."""
    names = settings.reference
    if not names:
        return []
    if info.class_splits is not None:
        message = "standard networks learn no classes of few-shot tasks; remove the setting"
        return [Problem("reference", ", ".join(names), message)]
    from nascore.reference.networks import problems_with  # torch, which this step does not import
    from nascore.spaces.base import ImageShape

    return problems_with(names, ImageShape(info.channels, info.size, len(info.classes)))


def _run_key() -> str:
    """Return the key of the pipeline run: of Kubeflow's run, or one that the state folder keeps."""
    given = run_key()
    if given is not None:
        return given
    path = state_folder() / _KEY
    if path.exists():
        return str(read_json(path)["run_key"])
    key = uuid.uuid4().hex
    write_json(path, {"run_key": key})
    return key
