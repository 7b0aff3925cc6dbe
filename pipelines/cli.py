"""The `nas` command. It starts fast: torch, kfp and mlflow are imported by the processes it starts.

Exit status: 0 done, 1 the run failed, 2 the input is wrong (one message with every problem).
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError, Problem, collecting
from pipelines.bench import bench
from pipelines.check_data import check_data
from pipelines.cluster_commands import status, submit
from pipelines.diagnose import diagnose
from pipelines.doctor_command import doctor
from pipelines.logs_commands import logs
from pipelines.options import FAILED, STORE, configuration, one_message
from pipelines.plan import plan
from pipelines.profile import profile
from pipelines.retry_commands import retry
from pipelines.run_commands import retrain, run
from pipelines.schedule_commands import schedule
from pipelines.schedule_delete import delete
from pipelines.state_commands import clean_state
from pipelines.stop_commands import cancel

if TYPE_CHECKING:
    from pipelines.events import Kind


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nas-pipelines")
def main() -> None:
    """Neural architecture search: from your data to a registered network.

    Start with `nas run`; it needs nothing and ends in a few minutes.
    """


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
    from components.champions import RegistryAway, roll_back
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


main.command()(doctor)
main.command()(run)
main.command()(retrain)
main.command()(one_message(bench))
main.command()(one_message(diagnose))
main.command()(one_message(plan))
main.command()(one_message(profile))
main.command()(submit)
main.command()(status)
main.command()(logs)
main.command()(cancel)
main.command()(retry)
schedule.command()(delete)
main.command()(clean_state)
main.add_command(schedule)
main.add_command(check_data)


if __name__ == "__main__":
    main()
