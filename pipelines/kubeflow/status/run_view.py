"""Run on Kubeflow as `nas status` shows it: each task of the pipeline once, in its order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pipelines.kubeflow.client import JsonObject
from pipelines.kubeflow.status.node_places import parse_time
from pipelines.kubeflow.status.pipeline_tasks import PipelineTask, natural
from pipelines.kubeflow.status.run_state import (
    State,
    cancelled_at,
    is_ended,
    run_state,
    state_named,
)
from pipelines.kubeflow.status.task_nodes import Task, TaskList

_NOT_FINAL: tuple[State, ...] = ("pending", "running")
_SKEW = timedelta(seconds=2)  # between the clocks of KFP and Argo
_CONDITION = "condition-"
_BRANCHES = "condition-branches-"


@dataclass(frozen=True, slots=True)
class TaskView:
    """State of a task.

    Attributes:
        name: name in the pipeline; `search-worker[0]` is the first iteration of a loop.
        started_at: start of its first try.
        seconds: duration until its end or until now.
        tries: number of pods that were created for its work.
        reason: why it or its last try failed, or why it is waiting.
        task: its entry in KFP's list; None if it is not listed.
        groups: conditions and loops around it.
    """

    name: str
    state: State
    started_at: str | None = None
    seconds: int | None = None
    tries: int = 0
    reason: str | None = None
    task: Task | None = None
    groups: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Return whether the state will not change."""
        return self.state not in _NOT_FINAL

    def to_dict(self) -> dict[str, Any]:
        shown = asdict(self)
        return {name: shown[name] for name in shown if name not in ("task", "groups")}


@dataclass(frozen=True, slots=True)
class RunView:
    """State of a run.

    Attributes:
        reason: why it failed, or another remark about its state.
        stale_since: last change of the list of tasks, if the run continued after it.
        url: page of the run; None if only the address inside the cluster is known.
    """

    run_id: str
    name: str
    state: State
    reason: str | None
    tasks: tuple[TaskView, ...]
    stale_since: str | None
    url: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        shown = {name: getattr(self, name) for name in self.__slots__}
        return {**shown, "tasks": [task.to_dict() for task in self.tasks]}

    def task(self, name: str) -> TaskView | None:
        """Return the task of a name."""
        return next((task for task in self.tasks if task.name == name), None)


def task_views(
    run: JsonObject, listed: TaskList, plan: Sequence[PipelineTask], *, now: datetime
) -> tuple[TaskView, ...]:
    """Return the tasks of a run, without reasons.

    Args:
        listed: what KFP lists of the run.
        plan: tasks of its pipeline; empty if it is unknown.
        now: end of the duration of running tasks.
    """
    return tuple(
        _view(run, listed, name, task, groups, now)
        for name, task, groups in _rows(listed.tasks, plan)
    )


def seconds_since(start: str | None, now: datetime) -> int | None:
    """Return the seconds since a time that KFP has written; None if it is empty."""
    return _seconds(parse_time(start), now)


def with_reasons(tasks: Sequence[TaskView], reasons: Mapping[str, str]) -> tuple[TaskView, ...]:
    """Return tasks with the reasons that are known, by the names of the tasks."""
    return tuple(
        replace(task, reason=reasons[task.name]) if task.name in reasons else task for task in tasks
    )


def _rows(
    listed: Sequence[Task], plan: Sequence[PipelineTask]
) -> Iterator[tuple[str, Task | None, tuple[str, ...]]]:
    """Yield name, entry in the list and groups of each task, in the order of the pipeline."""
    left = {task.name: task for task in listed}
    for each in plan:
        own = {name for name, task in left.items() if task.base == each.name}
        names = own | set(each.names) if each.items is not None or not own else own
        for name in sorted(names, key=natural):
            yield name, left.pop(name, None), each.groups
    while left:
        base = next(iter(left.values())).base  # the iterations of a loop stay together
        for name in sorted((n for n, task in left.items() if task.base == base), key=natural):
            yield name, left.pop(name), ()


def _view(
    run: JsonObject,
    listed: TaskList,
    name: str,
    task: Task | None,
    groups: tuple[str, ...],
    now: datetime,
) -> TaskView:
    if task is None:
        return TaskView(name, _unlisted(run, listed, groups), groups=groups)
    state = _state(run, task)
    seconds = None
    if task.start and (task.end or state != "pending"):
        finished = parse_time(run.get("finished_at")) if is_ended(run) else now
        seconds = _seconds(parse_time(task.start), parse_time(task.end) or finished)
    return TaskView(
        name=name,
        state=state,
        started_at=task.start or None,
        seconds=seconds,
        tries=len(task.nodes) or int(bool(task.start)),
        task=task,
        groups=groups,
    )


def _state(run: JsonObject, task: Task) -> State:
    """Return the state of a task; the run may have ended after the last change of the list."""
    listed, end = state_named(task.state), run_state(run)
    if listed == "failed" and end == "cancelled":
        asked, ended = parse_time(cancelled_at(run)), parse_time(task.end)
        return "cancelled" if asked and ended and ended >= asked - _SKEW else "failed"
    if listed not in _NOT_FINAL or not is_ended(run):
        return listed
    if end == "succeeded":
        return "succeeded"
    return end if task.start else "not-reached"


def _unlisted(run: JsonObject, listed: TaskList, groups: tuple[str, ...]) -> State:
    """Return the state of a task of the pipeline that KFP does not list."""
    if any(listed.groups.get(group) == "SKIPPED" for group in groups):
        return "skipped"
    if not is_ended(run):
        return "pending"
    if run_state(run) != "succeeded":
        return "not-reached"
    conditions = [g for g in groups if g.startswith(_CONDITION) and not g.startswith(_BRANCHES)]
    is_reached = all(group in listed.groups for group in conditions)
    return "succeeded" if listed.is_going_on and is_reached else "skipped"


def _seconds(start: datetime | None, end: datetime | None) -> int | None:
    if start is None or end is None:
        return None
    return max(0, round((end - start).total_seconds()))
