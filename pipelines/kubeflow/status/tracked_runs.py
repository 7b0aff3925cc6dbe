"""The MLflow runs of a run on the cluster: why a step ended, and the closing of what is open.

What is asked of MLflow here is asked from the machine where the command runs, which may not reach
a server inside the cluster. Then the next run of the pipeline closes what is open.
"""

import re
import socket
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, get_args
from urllib.parse import urlsplit
from urllib.request import getproxies

from components.config.settings import TrackingConfig
from components.ending import TAG_KIND, TAG_REASON, End, Kind
from components.tracking.store_checks import sqlite_path
from nascore.errors import ResourceUnavailable
from nascore.redaction import redact
from pipelines.full_install import command
from pipelines.kubeflow.run_origin import Origin

_COPY = re.compile(r"-\d+$")  # kfp numbers the tasks of one component
_CONNECT_S = 5.0
_LIMIT_S = 30.0
_LATER = "the next run of the pipeline closes what this one has left open"
_NOT_KNOWN = "MLflow cannot say why the step ended"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Closing:
    """What was closed in MLflow.

    Attributes:
        run_ids: MLflow runs that were open.
        note: why something could not be closed; empty when all could.
    """

    run_ids: tuple[str, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"mlflow_closed": list(self.run_ids), "mlflow_note": self.note or None}

    def __str__(self) -> str:
        count = len(self.run_ids)
        closed = f"{count} open {'run' if count == 1 else 'runs'} closed" if count else ""
        told = "; ".join(part for part in (closed, self.note) if part)
        return f"MLflow: {told}" if told else ""


def close_open(
    origin: Origin, *, status: Literal["FAILED", "KILLED"], reason: str, kind: str
) -> Closing:
    """Close the MLflow runs of an ended run, or of an ended chain of retries, that are still open.

    Args:
        status: what they get.
        reason: goes into their tag `nas.end_reason`.
        kind: goes into `nas.end_kind`.
    """
    uri = uri_of(origin)
    away = unreachable(uri)
    if away:
        return Closing(note=f"{away}; {_LATER}")
    from components.tracking.closing import close_run

    try:
        closed = close_run(
            uri=uri,
            run_key=origin.run_key,
            experiment=str(origin.setting("tracking", "experiment") or TrackingConfig().experiment),
            status=status,
            reason=reason,
            kind=kind,
            limit_s=_LIMIT_S,
        )
    except ResourceUnavailable as error:
        return Closing(note=str(error))
    refused = ", ".join(closed.refused)
    return Closing(closed.run_ids, f"this account may not close {refused}" if refused else "")


def recorded_end(origin: Origin, task: str) -> End | None:
    """Return the end of a step that stands in MLflow; None where there is none, or no answer."""
    uri = uri_of(origin)
    if not origin.is_ours or unreachable(uri):
        return None
    from components.tracking.recall import tag_of_run

    step = step_of(task)
    key = f"{origin.run_key}.{step}"
    tag = tag_of_run(uri, key, TAG_KIND, unknown=_NOT_KNOWN)
    kind: Kind | None = next((kind for kind in get_args(Kind) if kind == tag), None)
    if kind is None:
        return None
    reason = tag_of_run(uri, key, TAG_REASON, unknown=_NOT_KNOWN)
    return End(step, kind, reason or "no reason is in MLflow")


def step_of(task: str) -> str:
    """Return the step that a task runs: `train_final` for `train-final-2`."""
    return _COPY.sub("", task.partition("[")[0]).replace("-", "_")


def uri_of(origin: Origin) -> str:
    """Return the address of the MLflow store of a run."""
    return str(origin.setting("tracking", "uri") or TrackingConfig().uri)


@cache
def unreachable(uri: str) -> str:
    """Say why MLflow cannot be asked from here; empty when it can. A server is asked once."""
    if sqlite_path(uri) is not None:
        return f"{uri} is a file in the pods, which cannot be reached from here"
    if find_spec("mlflow") is None:
        return f"MLflow cannot be asked without the full install ({command()})"
    try:
        parts = urlsplit(uri)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        return f"{redact(uri)} is no address ({error})"
    if parts.hostname is None or port is None or parts.scheme in getproxies():
        return ""
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()
    except OSError as error:
        return f"{redact(uri)} cannot be reached from here ({error.strerror or error})"
    return ""
