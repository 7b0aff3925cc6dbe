"""`nas run` and `nas retrain`: run a pipeline on this machine and print its result."""

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from nascore.errors import InputError, Problem
from nascore.files import full_disk
from nascore.redaction import redact
from pipelines.commands.options import STORE, configuration, one_message, output_options
from pipelines.commands.shortcuts import shortcuts
from pipelines.exit_status import FAILED, INTERRUPTED, WRONG_INPUT
from pipelines.local.events import FIRST_STEP

if TYPE_CHECKING:
    from components.config.schema import Config
    from pipelines.definitions.kinds import Kind
    from pipelines.local.process import Failure


@configuration
@shortcuts()
@output_options
@one_message
def run(**arguments: Any) -> None:
    """Search, train, profile and register a network on this machine.

    CONFIG is a YAML file with settings above those of the preset. Runs the compiled pipeline in
    local processes, the same as on Kubeflow.
    """
    _run("search", **arguments)


@configuration
@shortcuts()
@output_options
@one_message
def retrain(**arguments: Any) -> None:
    """Train the champion's architecture on new data; promote it if it is better.

    Searches again if there is no champion, if it is too old, or if the data drifted too far
    (section `retrain`). Section `promote` has the conditions of a promotion.
    """
    _run("retrain", **arguments)


def _run(
    kind: "Kind",
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    as_json: bool,
    shows_timings: bool,
) -> None:
    start = time.monotonic()
    from rich.console import Console

    from components.tracking import check_store
    from components.tracking.client import ignore_variables
    from components.tracking.experiments import with_active_experiment
    from pipelines.config import given_keys
    from pipelines.definitions.devices import missing_devices
    from pipelines.local.output import Output, default_folder, problems_with
    from pipelines.local.process import RunInterrupted, run_pipeline

    if resume and out is None:
        raise InputError.of("--resume", None, "needs --out with the folder of the run")
    folder = out or default_folder()
    resolved = _resolve_run(config, preset, settings, out=folder, resume=resume)
    resolved, notes = with_active_experiment(resolved)
    notes += ignore_variables(resolved.tracking.uri)
    problems, warnings = check_store(
        resolved.tracking.uri,
        resolved.tracking.experiment,
        writes=True,
        model=resolved.registry.model,
    )
    given = given_keys(config, settings)
    problems += problems_with(folder, resolved, resume=resume, given=given)
    problems += missing_devices(resolved)
    problems += _source_problems(resolved, resume=resume)
    if problems:
        raise InputError(problems)
    if not resume:
        _check_champion(resolved, kind)
    output = Output(folder, resolved, resume=resume)
    console = Console(stderr=as_json, highlight=False, markup=False, emoji=False)
    for note in notes:
        console.print(note, soft_wrap=True)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    source = resolved.data.source
    console.print(
        f"Running {resolved.method} on {source}; output in {output.folder}", soft_wrap=True
    )
    try:
        failure = run_pipeline(output, console, kind)
    except RunInterrupted as stop:
        _say_stopped(output.folder, kind)
        sys.exit(INTERRUPTED if stop.signum == signal.SIGINT else FAILED)
    if failure is not None and failure.problems and failure.step == FIRST_STEP:
        output.undo()
        raise InputError(failure.problems)
    if failure is not None:
        _fail(output.folder, failure, kind)
    result = output.finish(time.monotonic() - start)
    _say_result(result, output.folder, console, resolved)
    if shows_timings:
        from pipelines.local.timings import table

        console.print("\n".join(["", *table(result["timings"])]), soft_wrap=True)
    if as_json:
        click.echo(json.dumps(result))


def _source_problems(config: "Config", *, resume: bool) -> list[Problem]:
    """Return what can be seen at once of the data, the database of the study, and S3.

    A run that is resumed may have read its data, and waits for S3 where it needs more.
    """
    from pipelines.doctor.service_checks import data_fault, store_problems, study_problem

    fault, problem = data_fault(config), study_problem(config)
    found = [Problem("data.source", config.data.source, fault)] if fault else []
    found += [] if problem is None else [problem]
    return found if resume else found + store_problems(config)


def _check_champion(config: "Config", kind: "Kind") -> None:
    """Refuse a champion that cannot be used and is not replaced, before any process is started.

    The first step checks it again with the data, and also under the default name of the model. A
    registry that does not answer is reported by the check of the store.

    Raises:
        InputError: the champion cannot be used, or the registry refuses the account.
    """
    from components.steps.champion import fault_of, refuse_unless_replaced

    policy, retrains = config.registry.unusable_champion, kind == "retrain"
    if config.registry.model is None or policy == "replace" or (policy is None and retrains):
        return
    fault = fault_of(config, None, say=lambda text: None)
    if fault is not None:
        refuse_unless_replaced(config, fault, retrains=retrains)


def _resolve_run(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    *,
    out: Path,
    resume: bool,
) -> "Config":
    """Return the configuration: the given one, or that of the run which is resumed without any."""
    from pipelines.config import resolve
    from pipelines.local.output import check_fresh, saved_config, settle_stores

    if resume and config is None and preset is None and not settings:
        return saved_config(out)
    try:
        return settle_stores(resolve(config, preset, settings))
    except InputError as error:
        raise InputError([*error.problems, *([] if resume else check_fresh(out))]) from error


def _say_stopped(out: Path, kind: "Kind") -> None:
    from nascore.config import OBJECTIVES
    from pipelines.local.run import SEARCH_RESULT

    path = out / SEARCH_RESULT
    if path.exists():
        found = json.loads(path.read_text())
        figure = OBJECTIVES[found.get("objective", "accuracy")]
        score = found.get("valid_score") or found["valid_accuracy"]
        click.echo(
            f"Stopped. Best of {len(found['arm']['children'])} children: validation {figure} "
            f"{score:.4f}; the architecture is in {path}",
            err=True,
        )
    else:
        click.echo("Stopped before a child was trained.", err=True)
    click.echo(f"Resume with: {_resume_command(out, kind)}", err=True)


def _resume_command(out: Path, kind: "Kind") -> str:
    command = "retrain" if kind == "retrain" else "run"
    return f"nas {command} --resume --out {shlex.quote(str(out))}"


def _fail(out: Path, failure: "Failure", kind: "Kind") -> NoReturn:
    from pipelines.local.run import LOG

    click.echo(
        "\n".join(
            [
                f"The step {failure.step} failed: {_cause(out, failure.error)}",
                *(f"  {problem}" for problem in failure.problems),
                f"  log:    {out / LOG}",
                f"  resume: {_resume_command(out, kind)}   (skips finished work)",
            ]
        ),
        err=True,
    )
    is_unstarted = failure.problems and not failure.has_trained
    sys.exit(WRONG_INPUT if is_unstarted else FAILED)


def _cause(out: Path, error: str) -> str:
    """Return why a step failed: a full disk, which processes that end cannot report, or the error.

    Args:
        out: folder of the run.
        error: that was reported last.
    """
    places = [out, Path(os.environ.get("TMPDIR", "/tmp")), Path.home() / ".cache"]
    place = full_disk(places)
    if place is None:
        return error
    return f"the disk of {place} is full; free space, then resume the run ({error})"


def _say_result(result: dict[str, Any], out: Path, console: Any, config: "Config") -> None:
    from pipelines.local.progress import summary

    console.print("\n".join(["", *summary(result, out), "", "Next:"]), soft_wrap=True)
    # The commands are last in their lines: paths of any length leave the column as it is.
    for why, command in (
        ("the run in MLflow", _view_command(config.tracking.uri)),
        ("the same on Kubeflow", _compile_command(out, config)),
        ("the same on your own images", "nas run --data imagefolder:DIR"),
    ):
        console.print(f"  {why + ':':<28} {command}", soft_wrap=True)


def _compile_command(out: Path, config: "Config") -> str:
    """Return the command for the same pipeline on a cluster, whose pods see no local files."""
    from nascore.data.file_access import S3

    command = f"nas compile {shlex.quote(str(out / 'config.json'))}"
    kind, _, path = config.data.source.partition(":")
    return f"{command} --data {kind}:s3://BUCKET/KEY" if path and S3 not in path else command


def _view_command(uri: str) -> str:
    """Return the command that shows the run in MLflow."""
    from components.tracking.client import sqlite_path
    from components.tracking.store_checks import absolute

    if sqlite_path(uri) is None:
        return f"open {redact(uri)}"
    return "nas ui" if uri == absolute(STORE) else f"nas ui --uri {shlex.quote(uri)}"
