"""Whether a tracking store can be used, found out before a run by MLflow's own client.

mlflow, which takes seconds to import, is loaded for servers only.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.tracking.client import quick_settings, sqlite_path, within
from components.tracking.mlflow_errors import OTHER_MACHINE, brief, kind_of, remedy_of
from nascore.errors import Problem
from nascore.files import is_writable
from nascore.redaction import redact, redact_setting
from nascore.service_errors import ErrorKind

if TYPE_CHECKING:
    from mlflow import MlflowClient

_KEY = "tracking.uri"
_SQLITE = "sqlite:///"
_SERVERS = ("http", "https")
_DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # and their ports
_TIMEOUT_S = 5
_LIMIT_S = 12.0  # of the whole check, also where the user's variables let the client wait
_DELETED = "is deleted; restore it in MLflow, or set another tracking.experiment"


def absolute(uri: str) -> str:
    """Return the URI with a relative SQLite path made absolute: steps run in other folders."""
    path = sqlite_path(uri)
    if path is None or not path.name:
        return uri
    _, mark, options = uri.partition("?")
    return f"{_SQLITE}{path.resolve()}{mark}{options}"


def check_store(uri: str, experiment: str | None = None) -> tuple[list[Problem], list[str]]:
    """Return what is wrong with a store, and what is only worth a warning: unreachable servers.

    Args:
        uri: the setting `tracking.uri`.
        experiment: name of the experiment that a run writes to; one that is deleted is a problem.
    """
    path = sqlite_path(uri)
    if path is not None:
        return _check_sqlite(uri, path, experiment), []
    fault = uri_error(uri)
    if fault:
        return [Problem(_KEY, redact_setting(uri), fault)], []
    if urlsplit(uri).scheme in _SERVERS:
        return _check_server(uri, experiment)
    return _check_database(uri)


def uri_error(uri: str) -> str:
    """Return what is wrong with an address by itself; empty when nothing is."""
    if sqlite_path(uri) is not None:
        return ""
    try:
        parts = urlsplit(uri)
        has_host = bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError as error:  # of a port or an IPv6 address
        return f"is no address ({error}); write http://HOST:PORT"
    scheme = parts.scheme.partition("+")[0]
    if scheme in _SERVERS:
        return "" if has_host else "names no host; write http://HOST:PORT"
    if scheme in _DATABASES and "://" in uri:
        return ""
    hint = "MLflow 3 keeps no runs in plain folders; " if scheme in ("file", "") else ""
    return f"{hint}use sqlite:///FILE or the http(s) address of a server"


def reach_database(uri: str) -> None:
    """Connect to the database server of a store, which MLflow's client would wait for too long.

    Raises:
        OSError: it cannot be reached. Stores of other kinds are not looked at.
    """
    import socket

    parts = urlsplit(uri)
    port = _DATABASES.get(parts.scheme.partition("+")[0])
    if port is not None and parts.hostname is not None:
        socket.create_connection((parts.hostname, parts.port or port), timeout=_TIMEOUT_S).close()


# --- a file ---------------------------------------------------------------------------------


def _check_sqlite(uri: str, path: Path, experiment: str | None) -> list[Problem]:
    message = _sqlite_folder_fault(path)
    if message is None and path.exists():
        message = _sqlite_file_fault(path)
        if message is None and experiment is not None and _is_deleted(path, experiment):
            return [Problem("tracking.experiment", experiment, _DELETED)]
    return [] if message is None else [Problem(_KEY, uri, message)]


def _sqlite_folder_fault(path: Path) -> str | None:
    if not path.name or path.is_dir():
        return "is a folder; name a file in it, such as mlflow.db"
    if not is_writable(path.parent):  # SQLite puts its journal next to the file
        return f"cannot be written: {path.parent} is not a writable folder; choose another place"
    return None


def _sqlite_file_fault(path: Path) -> str | None:
    import sqlite3

    if not os.access(path, os.R_OK | os.W_OK):
        return "may not be written; check its permissions"
    try:
        tables = {row[0] for row in _rows(path, "SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        return f"cannot be opened as an SQLite database ({error}); name another file"
    if tables and "experiments" not in tables:
        return "is a database of something else than MLflow; name another file"
    return None


def _is_deleted(path: Path, experiment: str) -> bool:
    import sqlite3

    stages = "SELECT lifecycle_stage FROM experiments WHERE name = ?"
    try:
        return [row[0] for row in _rows(path, stages, experiment)] == ["deleted"]
    except sqlite3.Error:  # a store that MLflow has not made or migrated yet
        return False


def _rows(path: Path, statement: str, *values: str) -> list[tuple[str, ...]]:
    import sqlite3

    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


# --- a database server ----------------------------------------------------------------------


def _check_database(uri: str) -> tuple[list[Problem], list[str]]:
    try:
        reach_database(uri)
        tables = within(_LIMIT_S, lambda: _tables(uri))
    except ImportError as error:
        return [Problem(_KEY, redact(uri), f"needs a driver that is not installed ({error})")], []
    except Exception as error:  # whatever a driver raises: a check must not end the command
        from nascore.search.database_errors import is_final  # SQLAlchemy, Optuna
        from nascore.search.database_errors import report as reason

        if is_final(error):
            message = f"cannot be used ({reason(error)}); check the account and the database"
            return [Problem(_KEY, redact(uri), message)], []
        return [], [_unreachable("database", uri, error)]
    if tables and "experiments" not in tables:
        message = "is a database of something else than MLflow; name another database"
        return [Problem(_KEY, redact(uri), message)], []
    return [], []


def _tables(uri: str) -> list[str]:
    from sqlalchemy import create_engine, inspect

    engine = create_engine(uri)
    try:
        return inspect(engine).get_table_names()
    finally:
        engine.dispose()


# --- a server -------------------------------------------------------------------------------


def _check_server(uri: str, experiment: str | None) -> tuple[list[Problem], list[str]]:
    shown = redact(uri)
    try:
        from mlflow import MlflowClient  # before the limit: the import takes seconds

        client = MlflowClient(tracking_uri=uri)
        with quick_settings(
            MLFLOW_HTTP_REQUEST_TIMEOUT=_TIMEOUT_S, MLFLOW_HTTP_REQUEST_MAX_RETRIES=0
        ):
            return within(_LIMIT_S, lambda: _ask(client, uri, experiment))
    except ImportError:
        return [], [f"the tracking server {shown} was not checked: mlflow is not installed here"]
    except Exception as error:  # whatever the client raises: a check must not end the command
        if kind_of(error) is not ErrorKind.TRANSIENT:
            return [Problem(_KEY, shown, _refusal(error))], []
        return [], [_unreachable("server", uri, error)]


def _unreachable(what: str, uri: str, error: Exception) -> str:
    return (
        f"the tracking {what} {redact(uri)} does not answer ({brief(error)}); the run goes on, and "
        f"what it logs is kept until the {what} is back"
    )


def _ask(
    client: "MlflowClient", uri: str, experiment: str | None
) -> tuple[list[Problem], list[str]]:
    some = client.search_experiments(max_results=1)
    own = None if experiment is None else client.get_experiment_by_name(experiment)
    if own is not None and own.lifecycle_stage != "active":
        return [Problem("tracking.experiment", str(experiment), _DELETED)], []
    for known in [own] if own is not None else some:
        client.search_logged_models([known.experiment_id], max_results=1)  # not before MLflow 3
    if own is not None:  # the artifact root of one that is not made yet is not known
        folder = _local_folder(own.artifact_location)
        if folder is not None and not folder.exists():
            message = (
                f"its artifacts lie in {folder}, which is not on this machine; {OTHER_MACHINE}"
            )
            if is_writable(folder):  # it would be made here: the server may be on this machine
                return [], [f"the tracking server {redact(uri)}: {message}"]
            return [Problem(_KEY, redact(uri), message)], []
    return [], []


def _local_folder(location: str | None) -> Path | None:
    """Return the folder of an artifact root that the client writes by itself; None for others."""
    parts = urlsplit(location or "mlflow-artifacts:/")
    return Path(parts.path) if parts.scheme in ("", "file") else None


def _refusal(error: Exception) -> str:
    status = re.search(r"failed with error code (\d+)", str(error))
    said = f"answers {status[1]}" if status else f"cannot be used ({brief(error)})"
    return f"{said}; {remedy_of(error)}"
