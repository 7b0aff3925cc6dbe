"""Whether a tracking store can be used, found out quickly and without importing mlflow."""

import os
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from nascore.errors import Problem

_KEY = "tracking.uri"
_SQLITE = "sqlite:///"
_DATABASES = ("postgresql", "mysql", "mssql")
_TIMEOUT_S = 5


def redact(uri: str) -> str:
    """The URI without its password, for messages and logs."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}{port}"))


def sqlite_path(uri: str) -> Path | None:
    """The database file of a `sqlite:///` URI; None for any other."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def absolute(uri: str) -> str:
    """The URI with a relative SQLite path made absolute: steps run in other folders."""
    path = sqlite_path(uri)
    return uri if path is None else f"{_SQLITE}{path.resolve()}"


def check_store(uri: str) -> tuple[list[Problem], list[str]]:
    """What is wrong with a store, and what is merely worth a warning (a server that is away)."""
    path = sqlite_path(uri)
    if path is not None:
        return _check_sqlite(uri, path), []
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return [], _check_server(uri)
    if scheme in _DATABASES:
        return [], []
    hint = "MLflow 3 keeps no runs in plain folders; " if scheme in ("file", "") else ""
    return [
        Problem(_KEY, redact(uri), f"{hint}use sqlite:///FILE or the http(s) address of a server")
    ], []


def _check_sqlite(uri: str, path: Path) -> list[Problem]:
    if path.is_dir():
        return [Problem(_KEY, uri, "is a folder; name a file in it, such as mlflow.db")]
    if not path.exists():
        folder = path.parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            return [Problem(_KEY, uri, f"cannot be made: {folder} is not a writable folder")]
        return []
    if not os.access(path, os.R_OK | os.W_OK):
        return [Problem(_KEY, uri, "may not be written; check its permissions")]
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_TIMEOUT_S)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [Problem(_KEY, uri, f"cannot be opened as an SQLite database ({error})")]
    if tables and "experiments" not in tables:
        return [Problem(_KEY, uri, "is a database of something else than MLflow; use another file")]
    return []


def _check_server(uri: str) -> list[str]:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_TIMEOUT_S):
            return []
    except (urllib.error.URLError, OSError, ValueError) as error:
        return [
            f"the tracking server {redact(uri)} does not answer ({error}); "
            "the run goes on, and what it logs is kept until the server is back"
        ]
