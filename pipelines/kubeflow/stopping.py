"""To stop runs on the cluster: cancel, wait for the end, close what is open in MLflow."""

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.kubeflow.client import Cluster, Thing
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.leftovers import close_cancelled
from pipelines.kubeflow.runs import wait
from pipelines.kubeflow.status.run_state import is_ended, state_of
from pipelines.kubeflow.status.tracked_runs import Closing

_REASON = "cancelled by `nas cancel`"
_GONE = ("its workflow", "not found")  # both stand in what KFP says of a run without a workflow


@dataclass(frozen=True, slots=True)
class Stopped:
    """What came of stopping a run.

    Attributes:
        state: of the run; `CANCELED` when it was stopped before its end.
        is_ended: nothing of it runs any more.
        is_gone: Kubernetes has nothing of it any more, while KFP shows it as going on for ever.
        closing: what was closed in MLflow; None when the run has not been stopped.
    """

    run: Thing
    state: str
    is_ended: bool
    is_gone: bool = False
    closing: Closing | None = None


def stop(
    cluster: Cluster, run: Thing, say: Callable[[str], None], *, poll_s: float, limit_s: float
) -> Stopped:
    """Cancel a run and wait for its end.

    Args:
        run: one that is going on.
        say: is told the changes of its tasks.
        limit_s: the wait is given up after so many seconds.

    Raises:
        ClusterError: the server refuses, or has been away for ten minutes.
    """
    is_gone = state_of(run) != "CANCELING" and not _cancel(cluster, run["run_id"])
    if not is_gone:
        waited = wait(cluster, run["run_id"], say, poll_s=poll_s, limit_s=limit_s)
        run, is_gone = waited.run, waited.lost is not None
    state = "CANCELED" if is_gone else state_of(run)
    if state != "CANCELED":  # it was faster, or takes longer
        return Stopped(run, state, is_ended(run))
    closing = close_cancelled(cluster, run, _REASON)
    return Stopped(run, state, is_ended=True, is_gone=is_gone, closing=closing)


def _cancel(cluster: Cluster, run_id: str) -> bool:
    """Ask for the end of a run; return whether there is anything left that can end.

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
