"""`nas ui`: the MLflow UI."""

import errno
import os
import socket
import sqlite3
import sys
from pathlib import Path

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
    if problems or path is None:
        raise InputError(problems)
    click.echo(f"open {_address(path, port)}")
    arguments = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    arguments += ["--workers", "1"]  # the default of four starts slowly
    os.execv(sys.executable, [sys.executable, *arguments])


def _address(path: Path, port: int) -> str:
    """Return the address of the latest runs: without its parameter, MLflow shows traces instead."""
    from components.tracking.experiments import rows_of_file

    root = f"http://127.0.0.1:{port}/"
    query = (
        "SELECT experiment_id FROM runs WHERE lifecycle_stage = 'active' "
        "ORDER BY start_time DESC LIMIT 1"
    )
    try:
        found = rows_of_file(path, query)
    except sqlite3.Error:  # a store of an older MLflow, which its own program updates
        found = []
    page = f"#/experiments/{found[0][0]}/runs?workflowType=machine_learning" if found else ""
    return root + page


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
