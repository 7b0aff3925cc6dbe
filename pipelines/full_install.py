"""What the client install leaves out, and what a command says that needs it."""

import importlib.util
import json
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import click

from pipelines.exit_status import WRONG_INPUT

FULL = (
    "torch",
    "torchvision",
    "mlflow",
    "optuna",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "jinja2",
    "matplotlib",
)
"""Packages of the extra `full` whose lack is told by the command that needs them."""
_PROJECT = "nas-pipelines"


def command() -> str:
    """Return the call of pip that completes this install, from where it came."""
    wanted = f"{_PROJECT}[full]"
    try:
        origin = json.loads(distribution(_PROJECT).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # the modules lie in a folder that was never installed
        origin = {}
    version = origin.get("vcs_info")
    if version is not None:
        wanted += f" @ {version['vcs']}+{origin['url']}@{version['commit_id']}"
    elif "url" in origin:
        wanted += f" @ {origin['url']}"
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(wanted)}"


def missing() -> list[str]:
    """Return the packages of the full install that are not here, without importing any."""
    return [name for name in FULL if importlib.util.find_spec(name) is None]


def needing_full_install(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse to start a command that the client install is too small for."""

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        lacking = missing()
        if lacking:
            refuse(lacking)
        return function(*args, **kwargs)

    return checked


def refuse(lacking: list[str]) -> None:
    """Say what is lacking and how to install it, and end with the status of wrong input."""
    context = click.get_current_context(silent=True)
    name = "this" if context is None else f"`{context.command_path}`"
    click.echo(
        f"{name} needs the full install (not here: {', '.join(lacking)}). Install it with\n"
        f"  {command()}",
        err=True,
    )
    sys.exit(WRONG_INPUT)
