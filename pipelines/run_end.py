"""How a run on the cluster has ended, and why: KFP knows that a task failed, its log knows why."""

from dataclasses import dataclass
from typing import Literal

from components.ending import End, Kind
from pipelines.cluster import ENDED, Cluster, Thing
from pipelines.cluster_errors import ClusterError, tell
from pipelines.run_origin import Origin, known_origin
from pipelines.task_nodes import Task, failed, pods_of, tasks_of
from pipelines.tracked_runs import recorded_end

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
        return f"{self.name}: {self.kind}: {self.reason}"

    def to_dict(self) -> dict[str, str]:
        return {"name": self.name, "kind": self.kind, "error": self.reason}


def state_of(run: Thing) -> str:
    """Return the state; `CANCELED` for a run that was cancelled, which KFP ends as FAILED."""
    state = str(run.get("state") or "PENDING")
    if state != "FAILED":
        return state
    states = [str(each.get("state")) for each in run.get("state_history") or []]
    before = next((each for each in reversed(states) if each not in ENDED), "")
    return "CANCELED" if before == "CANCELING" else state


def failures(cluster: Cluster, run: Thing) -> list[Failure]:
    """Return why a run failed, a reason for each failed task; empty for one that was cancelled.

    Raises:
        ClusterError: the server does not answer; that it has no log is no error.
    """
    state = state_of(run)
    if state in ("SUCCEEDED", "CANCELED"):
        return []
    tasks = failed(tasks_of(run))
    if state == "FAILED" and not tasks:
        tasks = [Task(_PIPELINE, state)]  # KFP's list stands still for a large run
    if not tasks:
        return []
    origin = known_origin(cluster, run)
    return [_failure(cluster, run, task, origin) for task in tasks]


def is_passing(found: list[Failure]) -> bool:
    """Whether all that failed may succeed when it is done again, with nothing changed."""
    return bool(found) and all(failure.kind in _PASSING for failure in found)


def deciding(found: list[Failure]) -> Failure | None:
    """Return the failure that says most: one that another try would meet again, if there is one."""
    return min(found, key=lambda failure: failure.kind in _PASSING, default=None)


def _failure(cluster: Cluster, run: Thing, task: Task, origin: Origin) -> Failure:
    try:
        end = _logged_end(cluster, run["run_id"], task)
    except ClusterError as error:
        return Failure(task.name, "unknown", f"its log could not be read ({error})")
    if end is None:
        end = recorded_end(origin, task.name)
    if end is None:
        pod = f"; its pod was {pods_of(task.nodes[-1])[0]}" if task.nodes else ""
        return Failure(task.name, "lost", f"{_LOST}{pod}")
    return Failure(task.name, end.kind, tell(cluster.connection, end.reason))


def _logged_end(cluster: Cluster, run_id: str, task: Task) -> End | None:
    """Return what the last try of a task wrote as its end.

    Raises:
        ClusterError: the server did not answer, at every try.
    """
    for pod in pods_of(task.nodes[-1]) if task.nodes else ():
        for left in reversed(range(_TRIES)):
            try:
                log = cluster.log(run_id, pod)
                break
            except ClusterError:
                if not left:
                    raise
        end = End.parse_last(log)
        if end is not None:
            return end
    return None
