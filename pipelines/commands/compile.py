"""`nas compile`: the pipeline as a file, and the checks of a configuration for a cluster."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError, Problem, collect_problems
from pipelines.commands.options import configuration, given, one_message
from pipelines.commands.shortcuts import shortcuts
from pipelines.definitions.kinds import KINDS, Kind

if TYPE_CHECKING:
    from components.config.schema import Config

_STDOUT = "-"
kind_option = click.option(
    "--kind", type=click.Choice(KINDS), default="search", show_default=True, help="Which pipeline."
)
image_option = click.option(
    "--image", callback=given, help="Image of all steps, by digest or by a tag that never changes."
)


@configuration
@shortcuts()
@click.option(
    "--out",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, - for standard output [search_pipeline.yaml or retrain_pipeline.yaml].",
)
@kind_option
@image_option
@click.option(
    "--no-check",
    is_flag=True,
    help="Do not check the data source, for one that only the cluster reaches.",
)
@one_message
def compile_command(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    kind: Kind,
    image: str | None,
    no_check: bool,
) -> None:
    """Write the pipeline as KFP's IR YAML, ready to upload to Kubeflow."""
    from components.image import IMAGE
    from pipelines.definitions.kinds import compile_pipeline

    out = out or Path(f"{kind}_pipeline.yaml")
    problems: list[Problem] = []
    resolved = resolve_for_cluster(config, preset, settings, image, problems)
    if resolved is not None:
        problems += _data_problems(resolved, is_checked=not no_check)
    if not out.absolute().parent.is_dir():
        problems.append(Problem("--out", str(out), "its folder does not exist; create it"))
    if problems or resolved is None:
        raise InputError(problems)
    if str(out) == _STDOUT:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{kind}_pipeline.yaml"
            compile_pipeline(kind, resolved, file, image=image or IMAGE)
            click.echo(file.read_bytes(), nl=False)
        return
    try:
        compile_pipeline(kind, resolved, out, image=image or IMAGE)
    except OSError as error:
        message = f"cannot be written ({error.strerror}); name another file, or free space"
        raise InputError.of("--out", out, message) from error
    click.echo(f"Wrote {out}. Upload it in the Kubeflow UI, or with kfp pipeline create.")


def _data_problems(config: "Config", *, is_checked: bool) -> list[Problem]:
    """Return problems of the data source."""
    from pipelines.kubeflow.data_checks import object_problems, path_problems, source_problems

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    problems = list(source_problems(config))
    if is_checked and not problems:
        problems += path_problems(config, warn)
        problems += object_problems(config, warn)
    return problems


def resolve_for_cluster(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    image: str | None,
    problems: list[Problem],
) -> "Config | None":
    """Return the configuration; add to `problems` what could not work on any cluster.

    Args:
        config, preset, settings: layers of the configuration.
        image: of the steps; None for the default one.
        problems: the found problems are appended.

    Returns:
        The configuration, or None if it has problems of its own.
    """
    from components.image import IMAGE
    from components.tracking.client import sqlite_path
    from pipelines.config import resolve
    from pipelines.definitions.compiling import check_cluster, check_image

    resolved = None
    with collect_problems(problems):
        check_image(image or IMAGE)
    with collect_problems(problems):
        resolved = resolve(config, preset, settings)
        check_cluster(resolved)
        if sqlite_path(resolved.tracking.uri) is not None:
            click.echo(
                "warning: tracking.uri is a SQLite file, which is deleted with its pod; set it to "
                "the URL of an MLflow server",
                err=True,
            )
    return resolved
