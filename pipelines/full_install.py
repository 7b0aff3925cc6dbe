"""Packages that the client install lacks, and the message of commands that need them."""

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
"""Packages of the extra `full` that commands check for."""
_PROJECT = "nas-pipelines"


def command() -> str:
    """Return the pip command that completes this install from its origin."""
    wanted = f"{_PROJECT}[full]"
    try:
        origin = json.loads(distribution(_PROJECT).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # the modules are in a folder that was never installed
        origin = {}
    version = origin.get("vcs_info")
    if version is not None:
        wanted += f" @ {version['vcs']}+{origin['url']}@{version['commit_id']}"
    elif "url" in origin:
        wanted += f" @ {origin['url']}"
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(wanted)}"


def missing() -> list[str]:
    """Return the packages of the full install that are missing, without importing any."""
    return [name for name in FULL if importlib.util.find_spec(name) is None]


def needing_full_install(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse to start a command if packages of the full install are missing."""

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        lacking = missing()
        if lacking:
            refuse(lacking)
        return function(*args, **kwargs)

    return checked


def refuse(lacking: list[str]) -> None:
    """Print which packages are missing and how to install them, and exit with status 2."""
    context = click.get_current_context(silent=True)
    name = "this" if context is None else f"`{context.command_path}`"
    click.echo(
        f"{name} needs the full install (missing: {', '.join(lacking)}). Install it with\n"
        f"  {command()}",
        err=True,
    )
    sys.exit(WRONG_INPUT)
