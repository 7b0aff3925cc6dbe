"""`nas ui`: the MLflow UI."""

import os
import sys

import click

from nascore.errors import InputError, Problem
from pipelines.commands.options import STORE, one_message


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
        problems = [Problem("--uri", uri, "is a server; open it in a browser")]
    if problems:
        raise InputError(problems)
    arguments = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    arguments += ["--workers", "1"]  # the default of four starts slowly
    os.execv(sys.executable, [sys.executable, *arguments])
