"""Stopping of runs on Kubeflow: cancel, wait for the end, close the MLflow runs."""

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.closing import close_cancelled
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.runs import wait
from pipelines.kubeflow.status.run_state import is_ended, state_of
from pipelines.kubeflow.status.tracked_runs import Closing

_REASON = "cancelled by `nas cancel`"
_GONE = ("its workflow", "not found")  # both are in KFP's message on a run without a workflow


@dataclass(frozen=True, slots=True)
class StopResult:
    """Result of stopping a run.

    Attributes:
        state: state of the run; `CANCELED` if it was stopped before its end.
        is_ended: nothing of the run is running.
        is_gone: Kubernetes has nothing of the run, while KFP shows it as running for ever.
        closing: MLflow runs that were closed; None if the run has not been stopped.
    """

    run: JsonObject
    state: str
    is_ended: bool
    is_gone: bool = False
    closing: Closing | None = None


def stop(
    cluster: Cluster, run: JsonObject, say: Callable[[str], None], *, poll_s: float, limit_s: float
) -> StopResult:
    """Cancel a run and wait for its end.

    Args:
        run: a running run.
        say: prints the changes of its tasks.
        poll_s: pause between two requests.
        limit_s: longest wait.

    Raises:
        ClusterError: the server refuses, or has been unreachable for ten minutes.
    """
    is_gone = state_of(run) != "CANCELING" and not _cancel(cluster, run["run_id"])
    if not is_gone:
        waited = wait(cluster, run["run_id"], say, poll_s=poll_s, limit_s=limit_s)
        run, is_gone = waited.run, waited.lost is not None
    state = "CANCELED" if is_gone else state_of(run)
    if state != "CANCELED":  # it had ended already, or takes longer
        return StopResult(run, state, is_ended(run))
    closing = close_cancelled(cluster, run, _REASON)
    return StopResult(run, state, is_ended=True, is_gone=is_gone, closing=closing)


def _cancel(cluster: Cluster, run_id: str) -> bool:
    """Request the end of a run; return whether anything of it is left.

    Raises:
        ClusterError: the server refuses.
    """
    try:
        cluster.cancel(run_id)
    except ClusterError as error:
        now = cluster.run(run_id)
        if now.get("state") == "CANCELING" and all(part in str(error) for part in _GONE):
            return False
        if not is_ended(now) and now.get("state") != "CANCELING":
            raise
    return True
