"""The `nas` command. It starts fast: torch, kfp and mlflow are imported by the processes it starts.

Exit status: 0 done, 1 the run failed, 2 the input is wrong (one message with every problem).
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError, Problem, collect_problems
from pipelines.commands.lazy_group import Later, LazyGroup
from pipelines.commands.options import STORE, configuration, one_message
from pipelines.commands.shortcuts import shortcuts
from pipelines.exit_status import FAILED

if TYPE_CHECKING:
    from pipelines.definitions.kinds import Kind

_LATER = {
    "bench": Later("commands.bench_suggest:bench", "Replay a table: many seeds of each method."),
    "cancel": Later("commands.cancel:cancel", "Stop a run on Kubeflow.", is_for_client=True),
    "check-data": Later("commands.check_data:check_data", "Look for faults of a data set."),
    "clean-state": Later("commands.clean_state:clean_state", "Remove old states of runs."),
    "compile": Later("cli:compile_command", "Write the pipeline as KFP's IR YAML.", True),
    "config": Later("commands.config:config", "List every setting, with default.", True),
    "diagnose": Later("commands.diagnose:diagnose", "Examine the controller of a run."),
    "doctor": Later("commands.doctor:doctor", "Check this machine, or a cluster.", True),
    "logs": Later("commands.logs:logs", "Print the log of a step on Kubeflow.", True),
    "plan": Later("commands.plan:plan", "Say what the search's budget buys."),
    "profile": Later("commands.profile:profile", "Measure a latency table here."),
    "retrain": Later("commands.run:retrain", "Train the champion's architecture on new data."),
    "retry": Later("commands.retry:retry", "Continue a run on Kubeflow that has failed.", True),
    "rollback": Later("cli:rollback", "Make the champion before the present one champion again."),
    "run": Later("commands.run:run", "Search, train, profile and register a network here."),
    "schedule": Later(
        "commands.schedule_delete:schedule", "Start runs on Kubeflow by the clock.", True
    ),
    "status": Later("commands.submit:status", "Say how far a run on Kubeflow is.", True),
    "submit": Later("commands.submit:submit", "Compile the pipeline; run it on Kubeflow.", True),
    "ui": Later("cli:ui", "Open the MLflow UI on the runs of this folder."),
}


@click.group(
    cls=LazyGroup,
    later=_LATER,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="nas-pipelines")
def main() -> None:
    """Neural architecture search: from your data to a registered network.

    Start with `nas run`; it needs nothing and ends in a few minutes.
    """


@configuration
@shortcuts()
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
    from components.tracking.client import sqlite_path
    from pipelines.config import resolve
    from pipelines.definitions.compiling import check_cluster, check_image
    from pipelines.definitions.kinds import compile_pipeline

    out = out or Path(f"{kind}_pipeline.yaml")
    resolved = resolve(config, preset, settings)
    problems: list[Problem] = []
    with collect_problems(problems):
        check_image(image or IMAGE)
    with collect_problems(problems):
        check_cluster(resolved)
    if problems:
        raise InputError(problems)
    if not out.absolute().parent.is_dir():
        raise InputError.of("--out", out, "its folder does not exist; make it first")
    compile_pipeline(kind, resolved, out, image=image or IMAGE)
    if sqlite_path(resolved.tracking.uri) is not None:
        click.echo(
            "warning: tracking.uri is a SQLite file, which is gone with its pod; give the address "
            "of an MLflow server",
            err=True,
        )
    click.echo(f"Wrote {out}. Upload it in the Kubeflow UI, or with kfp pipeline create.")


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
    from components.registry.aliases import roll_back
    from components.steps.export import follow_alias
    from nascore.errors import ServiceUnavailable

    name, exported = resolved.promote.model_name, None
    try:
        before, now = roll_back(name, uri=resolved.tracking.uri, to=to)
        if resolved.promote.export_to is not None:
            exported = follow_alias(resolved, now)
    except ServiceUnavailable as error:
        click.echo(
            f"{error}\nLook in MLflow which version is champion now, and call it again.", err=True
        )
        sys.exit(FAILED)
    click.echo(f"champion of {name}: version {now} (was {before or 'none'})")
    if exported is not None:
        click.echo(exported)


@click.option("--uri", default=STORE, show_default=True, help="MLflow store.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@one_message
def ui(uri: str, port: int) -> None:
    """Open the MLflow UI on the runs of this folder."""
    from components.tracking.client import sqlite_path
    from components.tracking.store_checks import check_store

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


if __name__ == "__main__":
    main()
