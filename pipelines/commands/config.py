"""`nas config`: every setting that may be written, with type, default, unit and description."""

import json
from typing import Any

import click

from nascore.errors import InputError
from pipelines.commands.completion import complete_preset
from pipelines.commands.options import one_message


@click.command("config")
@click.argument("method", required=False)
@click.option("--all", "of_all", is_flag=True, help="The settings of all methods.")
@click.option(
    "--preset",
    shell_complete=complete_preset,
    help="The preset whose values are the defaults: quick (default) or paper.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@one_message
def config(method: str | None, of_all: bool, preset: str | None, as_json: bool) -> None:
    """List every setting of METHOD [nases], for --set and for a configuration file.

    Each has a key, a type, a default, a unit where there is one, and a description. `nas run`
    starts from the preset quick of its method, so the defaults are the values of that preset;
    `--preset paper` lists those of the other. With --all they are the defaults without a preset,
    since each method has its own.
    """
    from components.config.schema import DEFAULT_METHOD
    from components.config.unknown_keys import suggest
    from nascore.methods.registry import METHODS
    from pipelines.commands.setting_list import settings_of
    from pipelines.config import resolve

    if of_all and method is not None:
        raise InputError.of("--all", "", "lists every method; leave out METHOD, or --all")
    if of_all and preset is not None:
        raise InputError.of("--preset", preset, "is of one method; name METHOD, or leave out --all")
    if method is not None and method not in METHODS:
        raise InputError.of("METHOD", method, f"is no method{suggest(method, METHODS)}")
    methods = [*METHODS] if of_all else [method or DEFAULT_METHOD]
    rows = settings_of(methods, None if of_all else resolve(None, preset, [f"method={methods[0]}"]))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(_line(row))


def _line(row: dict[str, Any]) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    head = f"{row['key']}  ({row['type']}{unit}, default {json.dumps(row['default'])})"
    return f"{head}  {row['description']}" if row["description"] else head
