"""Status of a run on Kubeflow: its tasks, why it failed, and signs beyond KFP's list."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.run_origin import known_origin
from pipelines.kubeflow.status.run_end import Failure, deciding, failure_of, failures
from pipelines.kubeflow.status.run_state import cancelled_at, run_state, state_of
from pipelines.kubeflow.status.run_view import (
    RunView,
    TaskView,
    seconds_since,
    with_reasons,
)
from pipelines.kubeflow.status.signs import RunSigns, observe

LOST = (
    "nothing of it seems to be left, although Kubeflow shows it as running: its pods have no log, "
    "and there is no sign of it since {since}, for example since its workflow was deleted"
)
_WAITING = timedelta(minutes=2)
"""A pod starts within this time, unless its image is large or no node has room for it."""


@dataclass(frozen=True, slots=True)
class Status:
    """State of a run with its reasons.

    Attributes:
        found: why it failed.
        signs: knowledge beyond Kubeflow's list.
        waiting: names of tasks whose pod has been waiting to start for longer than usual.
    """

    view: RunView
    found: tuple[Failure, ...]
    signs: RunSigns
    waiting: tuple[str, ...] = ()


def status_of(
    cluster: Cluster,
    run: JsonObject,
    found: Sequence[Failure] | None = None,
) -> Status:
    """Return the status of a run.

    Args:
        found: why it failed, if that is known already.

    Raises:
        ClusterError: the server does not answer.
    """
    observed = observe(cluster, run, known_origin(cluster, run))
    tasks, signs = observed.tasks, observed.signs
    found = failures(cluster, run) if found is None else found
    waiting = dict(waiting_pods(tasks, observed.now))
    reasons = dict(_earlier(cluster, run, tasks)) | waiting
    reasons |= {failure.name: failure.cause for failure in found}
    view = RunView(
        run_id=run["run_id"],
        name=str(run.get("display_name") or ""),
        state=run_state(run),
        reason=_reason(run, found, signs, observed.listed.changed),
        tasks=with_reasons(tasks, reasons),
        stale_since=signs.stale_since,
        url=link(cluster, run["run_id"]),
    )
    return Status(view, tuple(found), signs, tuple(waiting))


def link(cluster: Cluster, run_id: str) -> str | None:
    """Return the run's page; None if only the address inside the cluster is known."""
    ui = cluster.connection.ui
    return None if ui is None else f"{ui}/#/runs/details/{run_id}"


def waiting_pods(tasks: Sequence[TaskView], now: datetime) -> Iterator[tuple[str, str]]:
    """Yield tasks whose pod has been waiting to start for longer than usual, and since when."""
    for task in tasks:
        since = task.task.waits_since if task.task is not None and not task.is_final else ""
        waited_s = seconds_since(since, now)
        if waited_s is not None and waited_s > _WAITING.total_seconds():
            yield task.name, f"its pod has been waiting to start since {since}"


def _earlier(
    cluster: Cluster, run: JsonObject, tasks: Sequence[TaskView]
) -> Iterator[tuple[str, str]]:
    """Yield why the last try failed, for tasks that are being tried again or were cancelled."""
    for view in tasks:
        task = view.task
        if task is None or view.state not in ("pending", "running", "cancelled"):
            continue
        is_between = task.state == "PENDING"  # the group around it is tried again
        ended = task.nodes if is_between else task.nodes[:-1]
        if ended:
            failure = failure_of(cluster, run, task.up_to(len(ended)))
            yield view.name, f"try {len(ended)} failed: {failure.cause}"


def _reason(run: JsonObject, found: Sequence[Failure], signs: RunSigns, changed: str) -> str | None:
    state = state_of(run)
    if signs.is_lost:
        return LOST.format(since=changed)
    if state == "CANCELING":
        return "it is being cancelled"
    if state == "CANCELED":
        at = cancelled_at(run)
        return "it was cancelled" + (f" at {at}" if at else "")
    failure = deciding(found)
    return str(failure) if failure is not None and state == "FAILED" else None
