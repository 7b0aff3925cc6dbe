"""`nas rollback`: make the previous champion champion again."""

import sys
from pathlib import Path

import click

from nascore.errors import InputError, ServiceUnavailable
from pipelines.commands.options import configuration, one_message
from pipelines.commands.shortcuts import shortcuts
from pipelines.exit_status import FAILED


@configuration
@shortcuts("--model")
@click.option("--to", metavar="VERSION", help="Version of the model [the previous champion].")
@one_message
def rollback(
    config: Path | None, preset: str | None, settings: tuple[str, ...], to: str | None
) -> None:
    """Make the previous champion champion again.

    Reads `registry.model`, `promote.export_to` and `tracking.uri` of the configuration.
    """
    from components.tracking import check_store
    from pipelines.config import resolve

    resolved = resolve(config, preset, settings)
    problems, _ = check_store(resolved.tracking.uri)
    if problems:
        raise InputError(problems)
    from components.registry.aliases import roll_back
    from components.registry.task_schema import model_name
    from components.steps.export import follow_alias

    name, exported = model_name(resolved), None
    try:
        done = roll_back(name, uri=resolved.tracking.uri, to=to)
        if resolved.promote.export_to is not None:
            exported = follow_alias(resolved, done.now)
    except ServiceUnavailable as error:
        click.echo(f"{error}\nLook up the present champion in MLflow, and try again.", err=True)
        sys.exit(FAILED)
    for version, fault in done.skipped.items():
        click.echo(f"version {version} is passed over: it {fault}")
    click.echo(f"champion of {name}: version {done.now} (was {done.before or 'none'})")
    if exported is not None:
        click.echo(exported)
