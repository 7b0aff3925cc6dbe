"""Reasons why a run on Kubeflow failed: KFP states that a task failed, its log states why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.ending import End, Kind
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.errors import ClusterError, shown
from pipelines.kubeflow.run_origin import Origin, known_origin
from pipelines.kubeflow.status.pod_signs import expected_node, log_of
from pipelines.kubeflow.status.run_state import state_of
from pipelines.kubeflow.status.signs import observe
from pipelines.kubeflow.status.step_log import PodLog
from pipelines.kubeflow.status.task_nodes import Task, failed, pods_of, read
from pipelines.kubeflow.status.tracked_runs import recorded_end

Cause = Kind | Literal["lost", "unknown"]
"""`lost`: the step ended without a reason. `unknown`: its log could not be read."""

_LOST = "no reason was written (pod deleted or its node lost, or KFP's launcher failed)"
_PASSING: tuple[Cause, ...] = ("outage", "lost")
_PIPELINE = "pipeline"
_TRIES = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed task and the reason.

    Attributes:
        name: name of the task; `pipeline` if KFP names none.
    """

    name: str
    kind: Cause
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.cause}"

    @property
    def cause(self) -> str:
        """The kind and the reason."""
        return f"{self.kind}: {self.reason}"


def failures(cluster: Cluster, run: JsonObject) -> list[Failure]:
    """Return a reason for each failed task of a run; empty for a run that was cancelled.

    Raises:
        ClusterError: the server does not answer. A missing log is not an error.
    """
    state = state_of(run)
    if state in ("SUCCEEDED", "CANCELED"):
        return []
    tasks = failed(read(run).tasks)
    if not tasks and state != "FAILED":
        return []
    origin = known_origin(cluster, run)
    if tasks:
        return [failure_of(cluster, run, task, origin) for task in tasks]
    return _not_listed(cluster, run, origin)


def failure_of(
    cluster: Cluster, run: JsonObject, task: Task, origin: Origin | None = None
) -> Failure:
    """Return why the last try of a task failed.

    Args:
        origin: what the run was started with; if given, MLflow is asked too, which has the end of
            the last try only.
    """
    node = task.nodes[-1] if task.nodes else None
    try:
        log = PodLog("") if node is None else _log(cluster, run["run_id"], node)
    except ClusterError as error:
        return Failure(task.name, "unknown", f"its log could not be read ({error})")
    end = End.parse_last(log.text)
    if end is None and origin is not None:
        end = recorded_end(origin, task.base)
    if end is not None:
        return Failure(task.name, end.kind, shown(cluster.connection, end.reason))
    return Failure(task.name, "lost", shown(cluster.connection, _last_words(log, node)))


def is_passing(found: Sequence[Failure]) -> bool:
    """Return whether all failed tasks may succeed when they are repeated unchanged."""
    return bool(found) and all(failure.kind in _PASSING for failure in found)


def deciding(found: Sequence[Failure]) -> Failure | None:
    """Return the most relevant failure: one that a repetition would not cure, if there is one."""
    return min(found, key=lambda failure: failure.kind in _PASSING, default=None)


def _not_listed(cluster: Cluster, run: JsonObject, origin: Origin) -> list[Failure]:
    """Return why a run failed whose list is stale and names no failed task."""
    observed, found = observe(cluster, run, origin), []
    listed = observed.listed
    for view in observed.tasks:
        if view.name in observed.signs.of_tasks and view.state == "failed":
            node = expected_node(listed, view, observed.tasks)
            task = Task(view.name, "FAILED", nodes=() if node is None else (node,))
            found.append(failure_of(cluster, run, task, origin))
    if found:
        return found
    since = f" (it has not changed since {listed.changed})" if listed.changed else ""
    reason = f"Kubeflow's list of its tasks names none that failed{since}"
    return [Failure(_PIPELINE, "lost", reason)]


def _log(cluster: Cluster, run_id: str, node: str) -> PodLog:
    """Return the log of a node's pod; repeat the request once.

    Raises:
        ClusterError: the server did not answer twice.
    """
    for left in reversed(range(_TRIES)):
        try:
            return log_of(cluster, run_id, node)
        except ClusterError:
            if not left:
                raise
    raise AssertionError("the loop returns or raises")


def _last_words(log: PodLog, node: str | None) -> str:
    """Return what is known about the end of a step that wrote no reason."""
    lines = [line.strip() for line in log.own_lines() if line.strip()]
    if lines:
        by = f", and KFP's launcher says: {log.launcher_error}" if log.launcher_error else ""
        return f"no reason was written; its log ends with: {lines[-1]}{by}"
    if log.launcher_error:
        return f"no reason was written; KFP's launcher says: {log.launcher_error}"
    return _LOST + (f"; its pod was {pods_of(node)[0]}" if node is not None else "")
