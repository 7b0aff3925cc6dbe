"""Closing of the MLflow runs that an ended run has left open."""

from typing import Literal

from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.retry import chain_of
from pipelines.kubeflow.run_origin import known_origin
from pipelines.kubeflow.status.run_end import Failure, deciding
from pipelines.kubeflow.status.run_state import is_ended, state_of
from pipelines.kubeflow.status.tracked_runs import Closing, close_open


def close_after(cluster: Cluster, run: JsonObject, found: list[Failure]) -> Closing | None:
    """Close the open MLflow runs of a run that did not succeed.

    Args:
        found: why it failed.

    Returns:
        None if there is nothing to close, or a retry continues the MLflow runs.
    """
    state, failure = state_of(run), deciding(found)
    if not is_ended(run) or state == "SUCCEEDED":
        return None
    if state == "CANCELED" or failure is None:
        return close_cancelled(cluster, run, "cancelled")
    return _close(cluster, run, "FAILED", f"{failure.name}: {failure.reason}", failure.kind)


def close_cancelled(cluster: Cluster, run: JsonObject, reason: str) -> Closing | None:
    """Close the open MLflow runs of a run that was cancelled; see `close_after`."""
    return _close(cluster, run, "KILLED", reason, "stopped")


def _close(
    cluster: Cluster, run: JsonObject, status: Literal["FAILED", "KILLED"], reason: str, kind: str
) -> Closing | None:
    try:
        origin = known_origin(cluster, run)
        chain = chain_of(cluster, run, origin.first)
    except ClusterError as error:
        return Closing(note=f"nothing is closed, since it may have been retried: {error}")
    if not origin.is_ours or not chain.is_newest(run):
        return None
    return close_open(origin, status=status, reason=reason, kind=kind)
