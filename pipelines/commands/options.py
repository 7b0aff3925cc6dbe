"""Common parts of the commands: arguments of the configuration, and refusal of wrong input."""

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
"""Commands that start a run or schedule one."""
STORE = "sqlite:///runs/mlflow.db"  # default of tracking.uri


def given(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty value, as a script passes if its variable is not set."""
    if value is not None and not value.strip():
        raise click.BadParameter("is empty; give a value, or omit it", context, parameter)
    return value


def one_message(command: Callable[..., None]) -> Callable[..., None]:
    """Report wrong input in one message on standard error, with exit status 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            click.echo(wrong_input(error.problems), err=True)
            sys.exit(WRONG_INPUT)

    return wrapped


def wrong_input(problems: Any) -> str:
    """Return a title and every problem; commands that start runs add that none was started."""
    context = click.get_current_context(silent=True)
    starts = context is not None and context.info_name in _STARTING
    title = f"The input is wrong{'; nothing was started' if starts else ''}:"
    return "\n".join([title, *(f"  {problem}" for problem in problems)])


def configuration(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of a configuration: CONFIG, --preset and --set."""
    for option in (
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY.PATH=VALUE",
            help=(
                "Change one setting, above file and preset; may be given many times, and the last "
                "one of a key counts."
            ),
            shell_complete=complete_setting,
        ),
        click.option(
            "--preset",
            shell_complete=complete_preset,
            help="quick (default; minutes on two cores) or paper.",
        ),
        click.argument("config", required=False, type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of commands that run a pipeline on this machine."""
    for option in (
        click.option("--out", type=click.Path(path_type=Path), help="Output folder [runs/<time>]."),
        click.option("--resume", is_flag=True, help="Resume the run in --out."),
        click.option("--json", "as_json", is_flag=True, help="Print only the result, as JSON."),
        click.option(
            "--timings", "shows_timings", is_flag=True, help="Print the time of each part."
        ),
    ):
        command = option(command)
    return command
