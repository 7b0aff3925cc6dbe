"""The `nas` command. It starts fast: torch, kfp and mlflow are imported by the processes it starts.

Exit status: 0 done, 1 the run failed, 2 the input is wrong (one message with every problem).
"""

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from nascore.errors import InputError, Problem, collecting
from pipelines.bench import bench
from pipelines.cluster_commands import cancel, status, submit
from pipelines.diagnose import diagnose
from pipelines.events import FIRST_STEP
from pipelines.options import (
    FAILED,
    INTERRUPTED,
    WRONG_INPUT,
    configuration,
    one_message,
    output_options,
)
from pipelines.schedule_commands import schedule

if TYPE_CHECKING:
    from components.config import Config
    from pipelines.events import Kind
    from pipelines.process import Failure

STORE = "sqlite:///runs/mlflow.db"  # as tracking.uri by default


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nas-pipelines")
def main() -> None:
    """Neural architecture search: from your data to a registered network.

    Start with `nas run`; it needs nothing and ends in a few minutes.
    """


@main.command()
@configuration
@output_options
@one_message
def run(**arguments: Any) -> None:
    """Search, train, profile and register a network on this machine.

    CONFIG is a YAML file; without one the preset is used as it is. Runs the same compiled pipeline
    as Kubeflow would, in local processes.
    """
    _run("search", **arguments)


@main.command()
@configuration
@output_options
@one_message
def retrain(**arguments: Any) -> None:
    """Train the champion's architecture on new data; promote it if it is better.

    Searches anew when there is no champion yet, it is too old, or the data drifted too far
    (`retrain` in the configuration). `promote` holds the gates.
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
) -> None:
    start = time.monotonic()
    from rich.console import Console

    from components.tracking import check_store
    from pipelines.devices import missing_devices
    from pipelines.output import Output, default_folder, problems_with
    from pipelines.process import Stopped, run_pipeline

    if resume and out is None:
        raise InputError.of("--resume", None, "needs --out with the folder of the run")
    folder = out or default_folder()
    resolved = _resolve_run(config, preset, settings, out=folder, resume=resume)
    problems, warnings = check_store(resolved.tracking.uri)
    problems += problems_with(folder, resolved, resume=resume) + missing_devices(resolved)
    if problems:
        raise InputError(problems)
    output = Output(folder, resolved, resume=resume)
    console = Console(stderr=as_json, highlight=False, markup=False, emoji=False)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    source = resolved.data.source
    console.print(
        f"Running {resolved.method} on {source}; output in {output.folder}", soft_wrap=True
    )
    try:
        failure = run_pipeline(output, console, kind)
    except Stopped as stop:
        _say_stopped(output.folder, kind)
        sys.exit(INTERRUPTED if stop.signum == signal.SIGINT else FAILED)
    if failure is not None and failure.problems and failure.step == FIRST_STEP:
        output.undo()
        raise InputError(failure.problems)
    if failure is not None:
        _fail(output.folder, failure, kind)
    result = output.finish(time.monotonic() - start)
    _say_result(result, output.folder, console, resolved.tracking.uri)
    if as_json:
        click.echo(json.dumps(result))


@main.command("compile")
@configuration
@click.option(
    "--out",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write [search_pipeline.yaml or retrain_pipeline.yaml].",
)
@click.option(
    "--kind",
    type=click.Choice(["search", "retrain"]),
    default="search",
    show_default=True,
    help="Which pipeline.",
)
@click.option("--image", help="Image of all steps, by digest or by a tag that never moves.")
@one_message
def compile_command(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    kind: "Kind",
    image: str | None,
) -> None:
    """Write the pipeline as KFP's IR YAML, ready to upload to Kubeflow."""
    from components.image import IMAGE
    from components.tracking.stores import sqlite_path
    from pipelines.compiling import check_cluster, check_image
    from pipelines.config import resolve
    from pipelines.retrain import compile_retrain
    from pipelines.search import compile_search

    out = out or Path(f"{kind}_pipeline.yaml")
    resolved = resolve(config, preset, settings)
    problems: list[Problem] = []
    with collecting(problems):
        check_image(image or IMAGE)
    with collecting(problems):
        check_cluster(resolved)
    if problems:
        raise InputError(problems)
    if not out.absolute().parent.is_dir():
        raise InputError.of("--out", out, "its folder does not exist; make it first")
    compile_pipeline = compile_retrain if kind == "retrain" else compile_search
    compile_pipeline(resolved, out, image=image or IMAGE)
    if sqlite_path(resolved.tracking.uri) is not None:
        click.echo(
            "warning: tracking.uri is a SQLite file, which is gone with its pod; give the address "
            "of an MLflow server",
            err=True,
        )
    click.echo(f"Wrote {out}. Upload it in the Kubeflow UI, or with kfp pipeline create.")


@main.command()
@configuration
@click.option("--to", metavar="VERSION", help="Which version [the champion before this one].")
@one_message
def rollback(
    config: Path | None, preset: str | None, settings: tuple[str, ...], to: str | None
) -> None:
    """Make the champion before the present one champion again.

    Reads `promote.model_name`, `promote.export_to` and `tracking.uri` of the configuration.
    """
    from components.tracking import check_store
    from pipelines.config import resolve

    resolved = resolve(config, preset, settings)
    problems, _ = check_store(resolved.tracking.uri)
    if problems:
        raise InputError(problems)
    from components.promotion import RegistryAway, roll_back
    from components.steps.hand_over import follow_alias

    name, exported = resolved.promote.model_name, None
    try:
        before, now = roll_back(name, uri=resolved.tracking.uri, to=to)
        if resolved.promote.export_to is not None:
            exported = follow_alias(resolved, now)
    except RegistryAway as error:
        click.echo(
            f"{error}\nLook in MLflow which version is champion now, and call it again.", err=True
        )
        sys.exit(FAILED)
    click.echo(f"champion of {name}: version {now} (was {before or 'none'})")
    if exported is not None:
        click.echo(exported)


@main.command()
@click.option("--uri", default=STORE, show_default=True, help="MLflow store.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@one_message
def ui(uri: str, port: int) -> None:
    """Open the MLflow UI on the runs of this folder."""
    from components.tracking.stores import check_store, sqlite_path

    path = sqlite_path(uri)
    problems, _ = check_store(uri)
    if not problems and path is not None and not path.exists():
        problems = [Problem("--uri", uri, "there are no runs yet; start with `nas run`")]
    if path is None and not problems:
        problems = [
            Problem("--uri", uri, "is a server with a page of its own; open it in a browser")
        ]
    if problems:
        raise InputError(problems)
    arguments = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    arguments += ["--workers", "1"]  # one person looks; four take four times as long to start
    os.execv(sys.executable, [sys.executable, *arguments])


@main.command()
@configuration
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@one_message
def doctor(
    config: Path | None, preset: str | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """Check this machine: Python, torch, GPU, memory, disk, MLflow store, data."""
    from pipelines.config import resolve
    from pipelines.doctor import examine

    findings = []
    for finding in examine(resolve(config, preset, settings)):
        findings.append(finding)
        if not as_json:
            advice = f"\n{'':12}-> {finding.advice}" if finding.advice else ""
            click.echo(f"{finding.state:<9}{finding.name:<10} {finding.seen}{advice}")
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in findings]))
    sys.exit(FAILED if any(finding.state == "problem" for finding in findings) else 0)


# --- the parts of `nas run` -----------------------------------------------------------------


def _resolve_run(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    *,
    out: Path,
    resume: bool,
) -> "Config":
    """The configuration of a run; one that is resumed without any knows its own."""
    from pipelines.config import resolve
    from pipelines.output import check_fresh, saved_config, settle_stores

    if resume and config is None and preset is None and not settings:
        return saved_config(out)
    try:
        return settle_stores(resolve(config, preset, settings))
    except InputError as error:
        raise InputError([*error.problems, *([] if resume else check_fresh(out))]) from error


def _say_stopped(out: Path, kind: "Kind") -> None:
    from pipelines.local import SEARCH_RESULT

    path = out / SEARCH_RESULT
    if path.exists():
        found = json.loads(path.read_text())
        click.echo(
            f"Stopped. Best of {len(found['arm']['children'])} children: validation accuracy "
            f"{found['valid_accuracy']:.4f}; the architecture is in {path}",
            err=True,
        )
    else:
        click.echo("Stopped before a child was trained.", err=True)
    click.echo(f"Go on with: {_resume_command(out, kind)}", err=True)


def _resume_command(out: Path, kind: "Kind") -> str:
    command = "retrain" if kind == "retrain" else "run"
    return f"nas {command} --resume --out {shlex.quote(str(out))}"


def _fail(out: Path, failure: "Failure", kind: "Kind") -> NoReturn:
    from pipelines.local import LOG

    click.echo(
        "\n".join(
            [
                f"The step {failure.step} failed: {failure.error}",
                *(f"  {problem}" for problem in failure.problems),
                f"  log:    {out / LOG}",
                f"  resume: {_resume_command(out, kind)}   (finished work is kept)",
            ]
        ),
        err=True,
    )
    sys.exit(WRONG_INPUT if failure.problems else FAILED)


def _say_result(result: dict[str, Any], out: Path, console: Any, uri: str) -> None:
    from pipelines.progress import summary

    console.print("\n".join(["", *summary(result, out), "", "Next:"]), soft_wrap=True)
    for command, why in (
        _view_command(uri),
        (f"nas compile {shlex.quote(str(out / 'config.json'))}", "the same pipeline for Kubeflow"),
        ("nas run --set data.source=imagefolder:DIR", "the same on your own images"),
    ):
        console.print(f"  {command:<58} {why}", soft_wrap=True)


def _view_command(uri: str) -> tuple[str, str]:
    """How to see the run in MLflow; short when the store is where `nas ui` looks anyway."""
    from components.tracking.stores import absolute, sqlite_path
    from nascore.redaction import redact

    why = "the run in the MLflow UI"
    if sqlite_path(uri) is None:
        return f"open {redact(uri)}", why
    return ("nas ui" if uri == absolute(STORE) else f"nas ui --uri {shlex.quote(uri)}"), why


main.command()(one_message(bench))
main.command()(one_message(diagnose))
main.command()(submit)
main.command()(status)
main.command()(cancel)
main.add_command(schedule)


if __name__ == "__main__":
    main()
