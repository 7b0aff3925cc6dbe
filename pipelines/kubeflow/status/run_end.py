"""Why a run on the cluster has failed: KFP knows that a task failed, its log knows why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.ending import End, Kind
from pipelines.kubeflow import clock
from pipelines.kubeflow.client import Cluster, Thing
from pipelines.kubeflow.errors import ClusterError, tell
from pipelines.kubeflow.run_origin import Origin, known_origin
from pipelines.kubeflow.status.pipeline_tasks import planned
from pipelines.kubeflow.status.pod_signs import expected_node, log_of
from pipelines.kubeflow.status.run_state import state_of
from pipelines.kubeflow.status.run_view import task_views
from pipelines.kubeflow.status.signs import look_for_signs, with_signs
from pipelines.kubeflow.status.step_log import PodLog
from pipelines.kubeflow.status.task_nodes import Listed, Task, failed, pods_of, read
from pipelines.kubeflow.status.tracked_runs import recorded_end

Cause = Kind | Literal["lost", "unknown"]
"""`lost`: the step ended without a reason. `unknown`: its log could not be read just now."""

_LOST = "no reason was written (pod deleted or its node lost, or KFP's launcher failed)"
_PASSING: tuple[Cause, ...] = ("outage", "lost")
_PIPELINE = "pipeline"
_TRIES = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that has failed, and why.

    Attributes:
        name: the task; `pipeline` where KFP names none.
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


def failures(cluster: Cluster, run: Thing) -> list[Failure]:
    """Return why a run failed, a reason for each failed task; empty for one that was cancelled.

    Raises:
        ClusterError: the server does not answer; that it has no log is no error.
    """
    state = state_of(run)
    if state in ("SUCCEEDED", "CANCELED"):
        return []
    listed = read(run)
    tasks = failed(listed.tasks)
    if not tasks and state != "FAILED":
        return []
    origin = known_origin(cluster, run)
    if tasks:
        return [failure_of(cluster, run, task, origin) for task in tasks]
    return _not_listed(cluster, run, listed, origin)


def failure_of(cluster: Cluster, run: Thing, task: Task, origin: Origin | None = None) -> Failure:
    """Return why the last try of a task failed.

    Args:
        origin: what the run was started with, where MLflow may be asked, too: it knows the end of
            the last try alone.
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
        return Failure(task.name, end.kind, tell(cluster.connection, end.reason))
    return Failure(task.name, "lost", tell(cluster.connection, _last_words(log, node)))


def is_passing(found: Sequence[Failure]) -> bool:
    """Whether all that failed may succeed when it is done again, with nothing changed."""
    return bool(found) and all(failure.kind in _PASSING for failure in found)


def deciding(found: Sequence[Failure]) -> Failure | None:
    """Return the failure that says most: one that another try would meet again, if there is one."""
    return min(found, key=lambda failure: failure.kind in _PASSING, default=None)


def _not_listed(cluster: Cluster, run: Thing, listed: Listed, origin: Origin) -> list[Failure]:
    """Return why a run failed whose list names no failed task, since it stands still."""
    now = clock.now()
    tasks = task_views(run, listed, planned(origin.pipeline), now=now)
    signs = look_for_signs(cluster, run, listed, tasks, origin, now)
    found = []
    for view in with_signs(tasks, signs):
        if view.name in signs.of_tasks and view.state == "failed":
            node = expected_node(listed, view, tasks)
            task = Task(view.name, "FAILED", nodes=() if node is None else (node,))
            found.append(failure_of(cluster, run, task, origin))
    if found:
        return found
    since = f" (it has not changed since {listed.changed})" if listed.changed else ""
    reason = f"Kubeflow's list of its tasks names none that failed{since}"
    return [Failure(_PIPELINE, "lost", reason)]


def _log(cluster: Cluster, run_id: str, node: str) -> PodLog:
    """Return the log of a node's pod; asks again once.

    Raises:
        ClusterError: the server did not answer, at every try.
    """
    for left in reversed(range(_TRIES)):
        try:
            return log_of(cluster, run_id, node)
        except ClusterError:
            if not left:
                raise
    raise AssertionError("it has been asked")


def _last_words(log: PodLog, node: str | None) -> str:
    """Return what is known of a step that wrote no reason."""
    lines = [line.strip() for line in log.own_lines() if line.strip()]
    if lines:
        by = f", and KFP's launcher says: {log.launcher_error}" if log.launcher_error else ""
        return f"no reason was written; its log ends with: {lines[-1]}{by}"
    if log.launcher_error:
        return f"no reason was written; KFP's launcher says: {log.launcher_error}"
    return _LOST + (f"; its pod was {pods_of(node)[0]}" if node is not None else "")
