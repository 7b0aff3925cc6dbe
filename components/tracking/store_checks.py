"""Whether a tracking store can be used, found out quickly and without importing mlflow."""

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nascore.errors import Problem
from nascore.redaction import redact, redact_setting

if TYPE_CHECKING:  # sqlite3 and urllib.request cost more time than all else here
    import urllib.request

_KEY = "tracking.uri"
_SQLITE = "sqlite:///"
_SERVERS = ("http", "https")
_DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # and their ports
_TIMEOUT_S = 5
WHAT_TO_DO = (
    "give the account of the steps (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD) the right "
    "to edit the experiment and the registered model, or name another tracking.experiment"
)
"""Against a store that refuses the account."""
_REFUSALS = {
    401: "give the account as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    403: "let the server allow this host name (--allowed-hosts), or this account the experiments",
    404: "this is no MLflow server, or its path is missing in tracking.uri",
}
_OTHER_LOGINS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "NETRC")
_OTHER_ACCOUNTS = ("~/.mlflow/credentials", "~/.netrc", "~/_netrc")


def brief(error: Exception) -> str:
    """One line about an error, without passwords."""
    lines = str(error).strip().splitlines()
    return redact(f"{type(error).__name__}: {lines[0] if lines else ''}")[:300]


def sqlite_path(uri: str) -> Path | None:
    """The database file of a `sqlite:///` URI; None for any other."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0])


def absolute(uri: str) -> str:
    """The URI with a relative SQLite path made absolute: steps run in other folders."""
    path = sqlite_path(uri)
    if path is None or not path.name:
        return uri
    _, mark, options = uri.partition("?")
    return f"{_SQLITE}{path.resolve()}{mark}{options}"


def check_store(uri: str) -> tuple[list[Problem], list[str]]:
    """What is wrong with a store, and what is merely worth a warning (a server that is away)."""
    path = sqlite_path(uri)
    if path is not None:
        return _check_sqlite(uri, path), []
    fault = uri_error(uri)
    if fault:
        return [Problem(_KEY, redact_setting(uri), fault)], []
    if urlsplit(uri).scheme in _SERVERS:
        warnings = _check_server(uri)
        refused = None if warnings else refusal(uri)
        if refused is None:
            return [], warnings
        told = f"answers {refused[0]}; {refused[1]}"
        if _may_have_another_account(uri):
            return [], [f"the tracking server {redact(uri)} {told}"]
        return [Problem(_KEY, redact(uri), told)], []
    return [], []


def uri_error(uri: str) -> str:
    """What is wrong with an address, as far as it tells by itself; empty when nothing is."""
    if sqlite_path(uri) is not None:
        return ""
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme in _SERVERS:
        return "" if parts.hostname else "names no host; write http://HOST:PORT"
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


def _check_sqlite(uri: str, path: Path) -> list[Problem]:
    message = _sqlite_folder_fault(path) or (_sqlite_file_fault(path) if path.exists() else None)
    return [] if message is None else [Problem(_KEY, uri, message)]


def _sqlite_folder_fault(path: Path) -> str | None:
    if not path.name or path.is_dir():
        return "is a folder; name a file in it, such as mlflow.db"
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not _is_writable(folder):
        return f"cannot be written: {folder} is not a writable folder; choose another place"
    return None


def _is_writable(folder: Path) -> bool:
    """Tried out, since permissions say nothing of what root may do, or of a read-only mount."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):  # as SQLite puts its journal beside the file
            return True
    except OSError:
        return False


def _sqlite_file_fault(path: Path) -> str | None:
    import sqlite3

    if not os.access(path, os.R_OK | os.W_OK):
        return "may not be written; check its permissions"
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        return f"cannot be opened as an SQLite database ({error}); name another file"
    if tables and "experiments" not in tables:
        return "is a database of something else than MLflow; name another file"
    return None


def refusal(uri: str) -> tuple[int, str] | None:
    """Status and advice when a server is well but takes nothing from us: its health hides that."""
    import http.client
    import urllib.error
    import urllib.request

    request = _request(uri, "/api/2.0/mlflow/experiments/search", "max_results=1")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        advice = _REFUSALS.get(error.code)
        return None if advice is None else (error.code, advice)
    except (OSError, ValueError, http.client.HTTPException):  # away just now
        return None


def _may_have_another_account(uri: str) -> bool:
    """Whether MLflow's client may log in with what we do not read."""
    if urlsplit(uri).username is not None or os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        return False
    if any(os.environ.get(name) for name in _OTHER_LOGINS):
        return True
    return any(Path(file).expanduser().exists() for file in _OTHER_ACCOUNTS)


def _check_server(uri: str) -> list[str]:
    import http.client
    import urllib.request

    try:
        with urllib.request.urlopen(_request(uri, "/health"), timeout=_TIMEOUT_S):
            return []
    except (OSError, ValueError, http.client.HTTPException) as error:
        return [
            f"the tracking server {redact(uri)} does not answer ({redact(str(error))}); "
            "the run goes on, and what it logs is kept until the server is back"
        ]


def _request(uri: str, path: str, query: str = "") -> "urllib.request.Request":
    """With the account that MLflow's client takes first: the one in the address."""
    import urllib.request

    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    address = parts._replace(netloc=host, path=f"{parts.path.rstrip('/')}{path}", query=query)
    request = urllib.request.Request(address.geturl())
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
    if user:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    return request
