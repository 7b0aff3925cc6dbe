"""`nas ui`: the MLflow UI."""

import errno
import os
import socket
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
    problems += _port_problems(port)
    if problems:
        raise InputError(problems)
    arguments = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    arguments += ["--workers", "1"]  # the default of four starts slowly
    os.execv(sys.executable, [sys.executable, *arguments])


def _port_problems(port: int) -> list[Problem]:
    """Return why MLflow cannot listen on a port: MLflow itself would end with exit status 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as MLflow's server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            taken = "is taken by another program" if error.errno == errno.EADDRINUSE else ""
            reason = taken or f"cannot be used ({error.strerror})"
            message = f"{reason}; end that program, or choose another port"
            return [Problem("--port", str(port), message)]
    return []
