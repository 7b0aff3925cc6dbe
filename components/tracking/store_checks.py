"""Whether a tracking store can be used, found out before a run.

mlflow, which takes seconds to import, is loaded for servers only (`server_checks`).
"""

import os
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.tracking.client import sqlite_path, sqlite_uri, within
from components.tracking.experiments import SERVERS, deleted, deleted_id, rows_of_file
from components.tracking.server_checks import LIMIT_S, check_server, local_folder, unreachable
from components.tracking.store_revision import QUERY, revision_fault
from nascore.errors import Problem
from nascore.files import is_writable
from nascore.redaction import redact, redact_setting

_KEY = "tracking.uri"
_DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # and their ports
_DATABRICKS = ("databricks", "databricks-uc")
_TIMEOUT_S = 5
_OTHER_PROGRAM = "is a database of something else than MLflow; name another"
_REVISION = "alembic_version"
_CHECK = "nas_check"


def absolute(uri: str) -> str:
    """Return the URI with a relative SQLite path made absolute: steps run in other folders."""
    path = sqlite_path(uri)
    if path is None or not path.name:
        return uri
    _, mark, options = uri.partition("?")
    return f"{sqlite_uri(path.resolve())}{mark}{options}"


def check_store(
    uri: str, experiment: str | None = None, *, writes: bool = False, model: str | None = None
) -> tuple[list[Problem], list[str]]:
    """Return what is wrong with a store, and what is only worth a warning: unreachable servers.

    Args:
        uri: the setting `tracking.uri`.
        experiment: name of the experiment that a run writes to; one that is deleted is a problem.
        writes: whether to try writing to a server: a tag of the experiment, which is created if it
            does not exist, and an artifact, which is removed.
        model: name of the registered model of a run; if it exists, it gets a tag, too.
    """
    path = sqlite_path(uri)
    if path is not None:
        return _check_sqlite(uri, path, experiment), []
    fault = uri_error(uri)
    if fault:
        return [Problem(_KEY, redact_setting(uri), fault)], []
    if urlsplit(uri).scheme in SERVERS:
        return check_server(uri, experiment, writes=writes, model=model)
    return _check_database(uri, experiment)


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
    if scheme in SERVERS:
        return "" if has_host else "names no host; write http://HOST:PORT"
    if scheme in _DATABASES and "://" in uri:
        return ""
    hint = "MLflow 3 keeps no runs in plain folders; " if scheme in ("file", "") else ""
    if uri.partition(":")[0] in _DATABRICKS:
        hint = "Databricks has its own accounts and registry, which are not supported; "
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
        message = _sqlite_file_fault(uri, path)
        if message is None and experiment is not None:
            return _check_experiment(uri, path, experiment)
    return [] if message is None else [Problem(_KEY, uri, message)]


def _check_experiment(uri: str, path: Path, name: str) -> list[Problem]:
    gone = deleted_id(uri, name)
    if gone is not None:
        return [Problem("tracking.experiment", name, deleted(uri, name, gone))]
    query = "SELECT artifact_location FROM experiments WHERE name = ?"
    for (location,) in rows_of_file(path, query, name):
        folder = local_folder(location)
        if folder is not None and not is_writable(folder):
            message = f"its artifacts lie in {folder}, which cannot be written; choose another name"
            return [Problem("tracking.experiment", name, message)]
    return []


def _sqlite_folder_fault(path: Path) -> str | None:
    if not path.name or path.is_dir():
        return "is a folder; name a file in it, such as mlflow.db"
    folder = str(path.resolve().parent)
    if unquote(folder) != folder:  # MLflow cannot load what it has stored there
        return (
            f"lies in {folder}, and MLflow reads %20 and the like in the name of a folder as other "
            "characters; rename the folder, or name another store"
        )
    if not is_writable(path.parent):  # SQLite puts its journal next to the file
        return f"cannot be written: {path.parent} is not a writable folder; choose another place"
    return None


def _sqlite_file_fault(uri: str, path: Path) -> str | None:
    if not os.access(path, os.R_OK | os.W_OK):
        return "may not be written; check its permissions"
    try:
        tables = {row[0] for row in rows_of_file(path, "SELECT name FROM sqlite_master")}
        revisions = rows_of_file(path, QUERY) if _REVISION in tables else []
    except sqlite3.Error as error:
        return f"cannot be opened as an SQLite database ({error}); name another file"
    if tables and "experiments" not in tables:
        return f"{_OTHER_PROGRAM} file"
    return revision_fault(uri, revisions[0][0]) if revisions else None


# --- a database server ----------------------------------------------------------------------


def _check_database(uri: str, experiment: str | None) -> tuple[list[Problem], list[str]]:
    try:
        reach_database(uri)
        message = within(LIMIT_S, lambda: _database_fault(uri))
        if not message and experiment is not None:
            gone = within(LIMIT_S, lambda: deleted_id(uri, experiment))
            if gone is not None:
                message = deleted(uri, experiment, gone)
                return [Problem("tracking.experiment", experiment, message)], []
    except ImportError as error:
        message = f"needs a driver that is not installed ({error})"
    except Exception as error:  # whatever a driver raises: a check must not end the command
        from nascore.search.database_errors import is_final  # SQLAlchemy, Optuna
        from nascore.search.database_errors import report as reason

        if not is_final(error):
            return [], [unreachable("database", uri, error)]
        message = f"cannot be used ({reason(error)}); check the account and the database"
    return [Problem(_KEY, redact(uri), message)] if message else [], []


def _database_fault(uri: str) -> str:
    """Return what is wrong with a database; nothing remains of the writes that are tried."""
    from sqlalchemy import Column, Integer, MetaData, Table, create_engine, inspect, text

    engine = create_engine(uri)
    try:
        tables = inspect(engine).get_table_names()
        if tables and "experiments" not in tables:
            return f"{_OTHER_PROGRAM} database"
        with engine.connect() as connection:
            if _REVISION in tables:
                revision = connection.execute(text(QUERY)).scalar()
                if revision is not None and (fault := revision_fault(uri, revision)):
                    return fault
            if tables:  # the right to write is checked for no rows, too
                for table in ("experiments", "runs"):
                    connection.execute(
                        text(f"UPDATE {table} SET lifecycle_stage = lifecycle_stage WHERE 1 = 0")
                    )
            else:
                made = Table(_CHECK, MetaData(), Column("id", Integer))
                made.create(connection)
                made.drop(connection)  # MySQL does not roll back what makes tables
            connection.rollback()
    finally:
        engine.dispose()
    return ""
