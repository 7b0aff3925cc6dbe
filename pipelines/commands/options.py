"""What commands have in common: how they get a configuration and how they refuse wrong input."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from nascore.errors import InputError
from pipelines.commands.completion import complete_preset, complete_setting
from pipelines.exit_status import WRONG_INPUT

_STARTING = ("run", "retrain", "submit", "retry", "create", "bench")
"""Commands that start a run, or have one started by the clock."""
STORE = "sqlite:///runs/mlflow.db"  # as tracking.uri by default


def given(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty name, as a script gives one whose variable is not set."""
    if value is not None and not value.strip():
        raise click.BadParameter("is empty; give a value, or leave it out", context, parameter)
    return value


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
    """Return a title and every problem; of a command that starts runs, that it has started none."""
    context = click.get_current_context(silent=True)
    starts = context is not None and context.info_name in _STARTING
    title = f"The input is wrong{'; nothing was started' if starts else ''}:"
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
            shell_complete=complete_setting,
        ),
        click.option(
            "--preset",
            shell_complete=complete_preset,
            help="quick (minutes on two cores, the default) or paper.",
        ),
        click.argument("config", required=False, type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments of the commands that run a pipeline on this machine."""
    for option in (
        click.option("--out", type=click.Path(path_type=Path), help="Output folder [runs/<time>]."),
        click.option("--resume", is_flag=True, help="Go on with the run in --out."),
        click.option("--json", "as_json", is_flag=True, help="Print only the result, as JSON."),
        click.option("--timings", "shows_timings", is_flag=True, help="Say where the time went."),
    ):
        command = option(command)
    return command
