"""A run on the cluster as `nas status` shows it: the pipeline's tasks once each, in its order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.kubeflow.client import Thing
from pipelines.kubeflow.status.node_places import NO_TIME
from pipelines.kubeflow.status.pipeline_tasks import Planned, natural
from pipelines.kubeflow.status.run_state import (
    State,
    cancelled_at,
    is_ended,
    run_state,
    state_in_words,
)
from pipelines.kubeflow.status.task_nodes import Listed, Task

_NOT_FINAL: tuple[State, ...] = ("pending", "running")
_SKEW = timedelta(seconds=2)  # between the clocks of KFP and Argo
_CONDITION = "condition-"
_BRANCHES = "condition-branches-"


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task.

    Attributes:
        name: as in the pipeline; `search-worker[0]` is the first iteration of a loop.
        started_at: when its first try began.
        seconds: how long it took, or has been running.
        tries: how many pods were made for its work.
        reason: why it failed, or the last of its tries did; or why it waits.
        task: what is listed of it; None when nothing is.
        groups: the conditions and loops that hold it.
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
        """Whether it stays in its state."""
        return self.state not in _NOT_FINAL

    def to_dict(self) -> dict[str, Any]:
        shown = asdict(self)
        return {name: shown[name] for name in shown if name not in ("task", "groups")}


@dataclass(frozen=True, slots=True)
class RunView:
    """A run.

    Attributes:
        reason: why it failed, or what else is to be said of its state.
        stale_since: since when the list of tasks has not changed although the run went on.
        url: its page; None where only the address within the cluster is known.
    """

    run_id: str
    name: str
    state: State
    reason: str | None
    tasks: tuple[TaskView, ...]
    stale_since: str | None
    url: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        shown = {name: getattr(self, name) for name in self.__slots__}
        return {**shown, "tasks": [task.to_dict() for task in self.tasks]}

    def task(self, name: str) -> TaskView | None:
        """Return the task of a name."""
        return next((task for task in self.tasks if task.name == name), None)


def task_views(
    run: Thing, listed: Listed, plan: Sequence[Planned], *, now: datetime
) -> tuple[TaskView, ...]:
    """Return the tasks of a run, without reasons.

    Args:
        listed: what KFP lists of it.
        plan: the tasks of its pipeline; empty when it is not known.
        now: until when a running task has been running.
    """
    return tuple(
        _view(run, listed, name, task, groups, now)
        for name, task, groups in _rows(listed.tasks, plan)
    )


def seconds_since(start: str | None, now: datetime) -> int | None:
    """Return the seconds since a time of KFP; None where there is none."""
    return _seconds(_time(start), now)


def with_reasons(tasks: Sequence[TaskView], reasons: Mapping[str, str]) -> tuple[TaskView, ...]:
    """Return tasks with what is said of some of them, by their names."""
    return tuple(
        replace(task, reason=reasons[task.name]) if task.name in reasons else task for task in tasks
    )


def _rows(
    listed: Sequence[Task], plan: Sequence[Planned]
) -> Iterator[tuple[str, Task | None, tuple[str, ...]]]:
    """Yield names, what is listed of them, and what they lie in; in the order of the pipeline."""
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
    run: Thing,
    listed: Listed,
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
        finished = _time(run.get("finished_at")) if is_ended(run) else now
        seconds = _seconds(_time(task.start), _time(task.end) or finished)
    return TaskView(
        name=name,
        state=state,
        started_at=task.start or None,
        seconds=seconds,
        tries=len(task.nodes) or int(bool(task.start)),
        task=task,
        groups=groups,
    )


def _state(run: Thing, task: Task) -> State:
    """Return the state of a task; the run may have ended since the list changed last."""
    listed, end = state_in_words(task.state), run_state(run)
    if listed == "failed" and end == "cancelled":
        asked, ended = _time(cancelled_at(run)), _time(task.end)
        return "cancelled" if asked and ended and ended >= asked - _SKEW else "failed"
    if listed not in _NOT_FINAL or not is_ended(run):
        return listed
    if end == "succeeded":
        return "succeeded"
    return end if task.start else "not-reached"


def _unlisted(run: Thing, listed: Listed, groups: tuple[str, ...]) -> State:
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


def _time(text: Any) -> datetime | None:
    if not text or str(text).startswith(NO_TIME):
        return None
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _seconds(start: datetime | None, end: datetime | None) -> int | None:
    if start is None or end is None:
        return None
    return max(0, round((end - start).total_seconds()))
