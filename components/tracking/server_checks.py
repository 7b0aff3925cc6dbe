"""Whether an MLflow server takes what a run writes, tried by MLflow's own client.

mlflow, which takes seconds to import, is loaded by the check, not by this module.
"""

import contextlib
import http.client
import os
import socket
import ssl
import tempfile
import urllib.error
import urllib.request
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.tracking.client import open_client, quick_settings, within
from components.tracking.experiments import deleted
from components.tracking.mlflow_errors import OTHER_MACHINE, brief, kind_of, remedy_of, status_of
from components.tracking.registered_models import find_model
from nascore.errors import InputError, Problem
from nascore.files import is_writable
from nascore.redaction import redact
from nascore.service_errors import ErrorKind

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

Found = tuple[list[Problem], list[str]]
"""Problems and warnings."""

LIMIT_S = 12.0
"""Seconds for a whole check, also where the user's variables let the client wait."""
_TIMEOUT_S = 5
_PROBE_S = 2.0
_KEY = "tracking.uri"
_CHECKED = "nas.checked"  # tag of the experiment and of the model: when a check has written it
_OBJECT = "nas-check"
_OBJECT_BYTES = 2**20 + 2**16  # above the limit of an nginx whose configuration names none
_TOKEN = "MLFLOW_TRACKING_TOKEN"
_ACCOUNT = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", _TOKEN)
_USE_PASSWORD = f"unset {_TOKEN}, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def check_server(uri: str, experiment: str | None, *, writes: bool, model: str | None) -> Found:
    """Return problems and warnings of a server.

    Args:
        uri: its address.
        experiment: that a run writes to.
        writes: whether to try writing, see `store_checks.check_store`.
        model: registered model of a run.
    """
    try:
        # Before the limit: it imports mlflow, which takes seconds.
        client = open_client(uri)
        with (
            quick_settings(
                MLFLOW_HTTP_REQUEST_TIMEOUT=_TIMEOUT_S, MLFLOW_HTTP_REQUEST_MAX_RETRIES=0
            ),
            warnings.catch_warnings(),
        ):
            # With MLFLOW_TRACKING_INSECURE_TLS it would come with each request.
            warnings.filterwarnings("ignore", message="Unverified HTTPS request")
            return within(LIMIT_S, lambda: _ask(client, uri, experiment, writes, model))
    except ImportError:
        shown = redact(uri)
        return [], [f"the tracking server {shown} was not checked: mlflow is not installed here"]
    except InputError as error:
        return list(error.problems), []
    except Exception as error:  # whatever the client raises: a check must not end the command
        if kind_of(error) is not ErrorKind.TRANSIENT:
            return _problem(uri, _refusal(uri, error))
        if os.environ.get(_TOKEN) and _asks_for_password(uri):  # it answers 500 to a token
            return _problem(uri, f"takes a user name and a password, not a token; {_USE_PASSWORD}")
        if _speaks_tls(uri):
            return _problem(uri, "the server speaks https, not http; write https:// in its address")
        return [], [unreachable("server", uri, error)]


def unreachable(what: str, uri: str, error: Exception) -> str:
    """Return the warning about a store that does not answer."""
    return (
        f"the tracking {what} {redact(uri)} does not answer ({brief(error)}); the run goes on, and "
        f"what it logs is kept until the {what} is back"
    )


def _problem(uri: str, message: str) -> Found:
    return [Problem(_KEY, redact(uri), message)], []


def _ask(
    client: "MlflowClient", uri: str, experiment: str | None, writes: bool, model: str | None
) -> Found:
    some = client.search_experiments(max_results=1)
    own = None if experiment is None else client.get_experiment_by_name(experiment)
    if own is not None and own.lifecycle_stage != "active":
        message = deleted(uri, own.name, own.experiment_id)
        return [Problem("tracking.experiment", own.name, message)], []
    for known in [own] if own is not None else some:
        client.search_logged_models([known.experiment_id], max_results=1)  # not before MLflow 3
    if own is None and experiment is not None and writes:
        try:
            own = client.get_experiment(client.create_experiment(experiment))
        except Exception as error:  # such as a name that is too long; others are reported above
            if kind_of(error) is not ErrorKind.REQUEST:
                raise
            return [Problem("tracking.experiment", experiment, cannot_be_made(error))], []
    if own is None:  # the artifact root of one that is not made yet is not known
        return [], []
    found = _check_folder(uri, own)
    if not writes or any(found):
        return found
    return _try_writing(client, uri, own, model)


def cannot_be_made(error: Exception) -> str:
    """Return the message about an experiment that the store refuses to create."""
    return f"cannot be made ({brief(error)}); choose another name"


def _check_folder(uri: str, own: "Experiment") -> Found:
    """Look for the artifact root if the client writes it by itself."""
    folder = local_folder(own.artifact_location)
    if folder is None or folder.exists():
        return [], []
    message = f"its artifacts lie in {folder}, which is not on this machine; {OTHER_MACHINE}"
    # It would be created here; a server on this machine would find it.
    if is_writable(folder) and (_is_here(uri) or folder.parent.exists()):
        return [], [f"the tracking server {redact(uri)}: {message}"]
    return _problem(uri, message)


def local_folder(location: str | None) -> Path | None:
    """Return the folder of an artifact root that the client writes by itself; None for others."""
    parts = urlsplit(location or "mlflow-artifacts:/")
    if parts.scheme == "file":
        return Path(urllib.request.url2pathname(parts.path))
    return Path(location or "") if parts.scheme == "" else None


def _is_here(uri: str) -> bool:
    host = urlsplit(uri).hostname or ""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _try_writing(client: "MlflowClient", uri: str, own: "Experiment", model: str | None) -> Found:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    client.set_experiment_tag(own.experiment_id, _CHECKED, now)
    if model is not None and find_model(client, model) is not None:
        client.set_registered_model_tag(model, _CHECKED, now)
    try:
        _try_artifact(uri, str(own.artifact_location))
    except Exception as error:  # whatever the client of an artifact store raises
        if status_of(error) != 413:
            raise
        limit = f"refuses an upload of 1 MiB ({remedy_of(error)})"
        return [], [
            f"the tracking server {redact(uri)} {limit}; larger models cannot be registered"
        ]
    return [], []


def _try_artifact(uri: str, location: str) -> None:
    """Write an object below the experiment, where those of its runs will be, and remove it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store = get_artifact_repository(location, tracking_uri=uri)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _OBJECT
        path.write_bytes(bytes(_OBJECT_BYTES))
        store.log_artifact(str(path))
    # A run removes nothing, so that it needs no right to. The next check writes the same object.
    with contextlib.suppress(Exception):
        store.delete_artifacts(_OBJECT)


def _refusal(uri: str, error: Exception) -> str:
    status = status_of(error)
    said = f"answers {status}" if status else f"cannot be used ({brief(error)})"
    values = {name: os.environ.get(name, "") for name in _ACCOUNT}
    spaced = [name for name, value in values.items() if value != value.strip()]
    hints = [f"{name} has a space or a line break at an end" for name in spaced]
    place = _redirect(uri)
    if place:
        hints.append(f"it redirects to {place}")
    return "; ".join([said, remedy_of(error), *hints])


class _NotFollowed(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


def _redirect(uri: str) -> str:
    """Return the address to which a server redirects requests, empty if it does not.

    MLflow's client follows it, and sends what it posts as a GET after the statuses 301 and 302.
    """
    answer = _refused_without_account(uri)
    if answer is None or not 300 <= answer.code < 400:
        return ""
    return redact(answer.headers.get("Location", "").partition("?")[0])


def _asks_for_password(uri: str) -> bool:
    """Return whether a server asks a request without an account for a user name and a password."""
    answer = _refused_without_account(uri)
    scheme = "" if answer is None else answer.headers.get("WWW-Authenticate", "")
    return answer is not None and answer.code == 401 and scheme.lower().startswith("basic")


def _refused_without_account(uri: str) -> urllib.error.HTTPError | None:
    """Return the answer to a request without an account if it is a redirect or an error."""
    address = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search"
    try:
        urllib.request.build_opener(_NotFollowed).open(address, timeout=_PROBE_S).close()
    except urllib.error.HTTPError as answer:
        return answer
    except (OSError, ValueError, http.client.HTTPException):  # the first error has said it
        pass
    return None


def _speaks_tls(uri: str) -> bool:
    """Return whether a server with an http address speaks https: it then closes connections."""
    parts = urlsplit(uri)
    if parts.scheme != "http" or parts.hostname is None:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 80), timeout=_PROBE_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False
