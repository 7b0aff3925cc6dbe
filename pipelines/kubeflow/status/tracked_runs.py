"""MLflow runs of a run on Kubeflow: why a step ended, and closing of open ones.

MLflow is asked from the machine where the command runs, which may not reach a server inside the
cluster. Then the next run of the pipeline closes the open runs.
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
from components.tracking.client import sqlite_path
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
    """MLflow runs that were closed.

    Attributes:
        run_ids: ids of the runs.
        note: why some could not be closed; empty if all could.
    """

    run_ids: tuple[str, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"mlflow_closed": list(self.run_ids), "mlflow_note": self.note or None}

    def __str__(self) -> str:
        count = len(self.run_ids)
        closed = f"{count} open {'run' if count == 1 else 'runs'} closed" if count else ""
        text = "; ".join(part for part in (closed, self.note) if part)
        return f"MLflow: {text}" if text else ""


def close_open(
    origin: Origin, *, status: Literal["FAILED", "KILLED"], reason: str, kind: str
) -> Closing:
    """Close the open MLflow runs of a run, or of a chain of retries, that has ended.

    Args:
        status: their new status.
        reason: value of their tag `nas.end_reason`.
        kind: value of their tag `nas.end_kind`.
    """
    uri = uri_of(origin)
    obstacle = unreachable(uri)
    if obstacle:
        return Closing(note=f"{obstacle}; {_LATER}")
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
    """Return the end of a step that MLflow has recorded; None without one, or without an answer."""
    uri = uri_of(origin)
    if not origin.is_ours or unreachable(uri):
        return None
    from components.tracking.pipeline_runs import tag_of_run

    step = step_of(task)
    key = f"{origin.run_key}.{step}"
    tag = tag_of_run(uri, key, TAG_KIND, unknown=_NOT_KNOWN)
    kind: Kind | None = next((kind for kind in get_args(Kind) if kind == tag), None)
    if kind is None:
        return None
    reason = tag_of_run(uri, key, TAG_REASON, unknown=_NOT_KNOWN)
    return End(step, kind, reason or "no reason is in MLflow")


def step_of(task: str) -> str:
    """Return the step of a task: `train_final` for `train-final-2`."""
    return _COPY.sub("", task.partition("[")[0]).replace("-", "_")


def uri_of(origin: Origin) -> str:
    """Return the address of the MLflow store of a run."""
    return str(origin.setting("tracking", "uri") or TrackingConfig().uri)


@cache
def unreachable(uri: str) -> str:
    """Return why MLflow cannot be asked from here; empty if it can. A server is tried once."""
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
