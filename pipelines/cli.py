"""The `nas` command. It starts fast: torch, kfp and mlflow are imported by the processes it starts.

Exit status: 0 done, 1 the run failed, 2 the input is wrong (one message with every problem).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from nascore.errors import InputError, Problem

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nas-pipelines")
def main() -> None:
    """Neural architecture search: from your data to a registered network.

    Start with `nas run`; it needs nothing and ends in a few minutes.
    """


def one_message(command: Callable[..., None]) -> Callable[..., None]:
    """Wrong input becomes one message on standard error and exit status 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            click.echo(wrong_input(error.problems), err=True)
            sys.exit(WRONG_INPUT)

    return wrapped


def wrong_input(problems: Any) -> str:
    title = "The input is wrong; nothing was started:"
    return "\n".join([title, *(f"  {problem}" for problem in problems)])


def configuration(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments by which every command gets its configuration."""
    for option in (
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY.PATH=VALUE",
            help="Change one setting; may be given many times and wins over file and preset.",
        ),
        click.option("--preset", help="quick (minutes on two cores, the default) or paper."),
        click.argument("config", required=False, type=click.Path(dir_okay=False, path_type=Path)),
    ):
        command = option(command)
    return command


@main.command()
@configuration
@click.option("--out", type=click.Path(path_type=Path), help="Output folder [runs/<time>].")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
@one_message
def run(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Search, train, profile and register a network on this machine.

    CONFIG is a YAML file; without one the preset is used as it is. Runs the same compiled pipeline
    as Kubeflow would, in local processes.
    """
    start = time.monotonic()
    from rich.console import Console

    from components.tracking import check_store
    from pipelines.config import resolve
    from pipelines.output import Output, absolute_store, default_folder

    if resume and out is None:
        raise InputError.of(
            "--resume", None, "needs --out with the folder of the run to go on with"
        )
    resolved = absolute_store(resolve(config, preset, settings))
    problems, warnings = check_store(resolved.tracking.uri)
    if problems:
        raise InputError(problems)
    console = Console(stderr=as_json, highlight=False)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    output = Output(out or default_folder(), resolved, resume=resume)
    _make_store_folder(resolved.tracking.uri)
    console.print(f"Running {resolved.method} on {resolved.data.source}; output in {output.folder}")
    failure = _run_pipeline(output.folder, console)
    if failure is not None and failure.get("event") == "input_error":
        output.undo()
        raise InputError([Problem(**problem) for problem in failure["problems"]])
    if failure is not None:
        _fail(output.folder, failure)
    result = _finish(output.folder, time.monotonic() - start)
    _say_result(result, output.folder, console, resolved.tracking.uri)
    if as_json:
        click.echo(json.dumps(result))


@main.command("compile")
@configuration
@click.option(
    "--out",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("search_pipeline.yaml"),
    show_default=True,
    help="File to write.",
)
@click.option("--image", help="Image of all steps, by digest or by a tag that never moves.")
@one_message
def compile_command(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path,
    image: str | None,
) -> None:
    """Write the pipeline as KFP's IR YAML, ready to upload to Kubeflow."""
    from components.image import IMAGE
    from pipelines.config import resolve
    from pipelines.search import check_image, compile_search

    resolved = resolve(config, preset, settings)
    check_image(image or IMAGE)
    if not out.absolute().parent.is_dir():
        raise InputError.of("--out", out, "its folder does not exist; make it first")
    compile_search(resolved, out, image=image or IMAGE)
    click.echo(f"Wrote {out}. Upload it in the Kubeflow UI, or with kfp pipeline create.")


@main.command()
@click.option("--uri", default="sqlite:///runs/mlflow.db", show_default=True, help="MLflow store.")
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


def _run_pipeline(out: Path, console: Any) -> dict[str, Any] | None:
    """Runs the pipeline in a process group of its own; returns what failed, or None."""
    from pipelines.local import LOG, PROGRESS
    from pipelines.progress import Display, follow

    with open(out / LOG, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.local", "--out", str(out)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    signal.signal(signal.SIGTERM, _interrupt)
    with Display(console) as display:
        try:
            follow(out / PROGRESS, display, lambda: process.poll() is None)
        except KeyboardInterrupt:
            _stop(process)
            click.echo(
                f"\nStopped. Go on with: nas run --resume --out {out} (same settings)", err=True
            )
            sys.exit(INTERRUPTED)
    if display.failure is not None:
        return display.failure
    if process.returncode != 0:
        return {"event": "failed", "step": "pipeline", "error": _last_line(out / LOG)}
    return None


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the whole process group: first politely, so that steps can save, then not."""
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _fail(out: Path, failure: dict[str, Any]) -> None:
    from pipelines.local import LOG

    click.echo(
        f"The step {failure['step']} failed: {failure['error']}\n"
        f"  log:    {out / LOG}\n"
        f"  resume: nas run --resume --out {out} (same settings; finished work is kept)",
        err=True,
    )
    sys.exit(FAILED)


def _finish(out: Path, total_s: float) -> dict[str, Any]:
    """Adds the time of the whole command to `result.json`.

    Overhead is what was neither data loading nor training nor profiling.
    """
    from pipelines.local import PROGRESS, RESULT
    from pipelines.progress import ProgressFile

    path = out / RESULT
    result: dict[str, Any] = json.loads(path.read_text())
    busy = 0.0
    for event in ProgressFile(out / PROGRESS).new():
        if event["event"] == "finished":
            busy += sum(event["busy"].values())
            if not event.get("restored"):
                result["seconds"][event["step"]] = event["seconds"]
    result["seconds"] |= {"total": round(total_s, 3), "overhead": round(total_s - busy, 3)}
    temporary = out / f".{RESULT}"
    temporary.write_text(json.dumps(result, indent=2))
    os.replace(temporary, path)
    return result


def _say_result(result: dict[str, Any], out: Path, console: Any, uri: str) -> None:
    from components.tracking import redact
    from pipelines.progress import summary

    console.print()
    console.print(summary(result, out))
    console.print("\nNext:")
    for command, why in (
        (f"nas ui --uri {redact(uri)}", "the run in the MLflow UI"),
        (f"nas compile {out / 'config.json'}", "the same pipeline for Kubeflow"),
        ("nas run --set data.source=imagefolder:DIR", "the same on your own images"),
    ):
        console.print(f"  {command:<58} {why}", soft_wrap=True)


def _make_store_folder(uri: str) -> None:
    from components.tracking.stores import sqlite_path

    path = sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    main()
