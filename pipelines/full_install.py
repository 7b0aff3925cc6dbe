"""What the client install leaves out, and what a command says that needs it."""

import importlib.util
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from pipelines.options import WRONG_INPUT

FULL = (
    "torch",
    "torchvision",
    "mlflow",
    "optuna",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "jinja2",
    "PIL",
)
"""Packages of the extra `full` whose lack is told by the command that needs them."""
COMMAND = "pip install 'nas-pipelines[full]'"


def missing() -> list[str]:
    """Return the packages of the full install that are not here, without importing any."""
    return [name for name in FULL if importlib.util.find_spec(name) is None]


def needing_full_install(command: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse to start a command that the client install is too small for."""

    @wraps(command)
    def checked(*args: Any, **kwargs: Any) -> Any:
        lacking = missing()
        if lacking:
            refuse(lacking)
        return command(*args, **kwargs)

    return checked


def refuse(lacking: list[str]) -> None:
    """Say what is lacking and how to install it, and end with the status of wrong input."""
    context = click.get_current_context(silent=True)
    name = "this" if context is None else f"`{context.command_path}`"
    click.echo(
        f"{name} needs the full install; {', '.join(lacking)} is not here. Install it with\n"
        f"  {COMMAND}",
        err=True,
    )
    sys.exit(WRONG_INPUT)
