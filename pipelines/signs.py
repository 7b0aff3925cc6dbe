"""What a run does where KFP's list of its tasks does not say: signs of its pods and of MLflow.

Argo compresses the status of a workflow beyond 1 MB, and KFP takes no compressed one: then the list
of tasks stands still for good, while the run goes on (KFP 2.17). And when the workflow of a run is
deleted, KFP calls the run RUNNING for ever.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from components.ending import End
from pipelines.cluster import Cluster, Thing
from pipelines.node_names import node_id
from pipelines.run_origin import Origin
from pipelines.run_state import State, is_ended, run_state
from pipelines.run_view import TaskView
from pipelines.step_log import PodLog
from pipelines.task_nodes import Listed, pods_of
from pipelines.tracked_runs import step_of
from pipelines.tracked_steps import Tracked, TrackedStep, tracked

QUIET = timedelta(minutes=5)
"""A list that has not changed for so long may stand still."""
LOST = timedelta(minutes=30)
"""A run of which nothing was heard for so long, and has no pods, is lost."""

_UPDATE = timedelta(minutes=1)  # between the end of a pod and the change in KFP's list
_UPLOAD = timedelta(minutes=15)  # between the end of a step in MLflow and that of its pod
_ARGO_TIME = re.compile(r"^time=(\S+) .*argo=true", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sign:
    """A task as its pod or MLflow shows it.

    Attributes:
        step: times of its step; None where only its pod is known.
    """

    state: State
    step: TrackedStep | None = None


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known besides the list.

    Attributes:
        stale_since: since when the list has not changed although the run went on; None when it
            is as it should be.
        of_tasks: by name, where more is known than from the list.
        is_lost: whether nothing of the run seems to be left, although KFP calls it running.
        note: where these are from, or why there are none.
    """

    stale_since: str | None = None
    of_tasks: Mapping[str, Sign] = field(default_factory=dict)
    is_lost: bool = False
    note: str = ""


def is_quiet(listed: Listed, now: datetime, limit: timedelta | None = None) -> bool:
    """Whether the list has not changed for a while, which is usual while a step works."""
    changed = _time(listed.changed)
    return changed is not None and now - changed > (limit or QUIET)


def stale_since(run: Thing, listed: Listed, now: datetime) -> str | None:
    """Return since when the list stands still, as far as it says so itself."""
    if is_ended(run):
        return listed.changed if listed.is_going_on and listed.changed else None
    is_between = not listed.is_working and run.get("state") in ("RUNNING", "CANCELING")
    return listed.changed if is_between and is_quiet(listed, now) else None


def look_for_signs(
    cluster: Cluster,
    run: Thing,
    listed: Listed,
    tasks: Sequence[TaskView],
    origin: Origin,
    now: datetime,
) -> Signs:
    """Find out what a run does whose list may stand still; asks nobody where it is in order.

    Args:
        origin: what the run was started with.

    Raises:
        ClusterError: the server does not answer.
    """
    since = stale_since(run, listed, now)
    if is_ended(run):
        if since is None or run_state(run) != "failed":
            return Signs(since)  # of a run that succeeded all tasks did
    elif since is None and not is_quiet(listed, now):
        return Signs()
    pods = dict(_pod_states(cluster, run, listed, tasks, now, all_tasks=since is not None))
    if since is None and any(state != "running" for state in pods.values()):
        since = listed.changed
        pods = dict(_pod_states(cluster, run, listed, tasks, now, all_tasks=True))
    elif since is None and pods:
        return Signs()  # it works, and the list says so
    known = tracked(origin)
    found = _tracked_signs(run, listed, tasks, known, now, is_stale=since is not None)
    if since is None and not found:
        return Signs(is_lost=_is_lost(cluster, run, listed, tasks, known, now))
    for name, state in pods.items():
        found[name] = Sign(state, found[name].step if name in found else None)
    if is_ended(run):
        found = {name: sign for name, sign in found.items() if sign.state != "running"}
    return Signs(since or listed.changed, found, note=_note(found, pods, known))


def with_signs(tasks: Sequence[TaskView], signs: Signs) -> tuple[TaskView, ...]:
    """Return tasks in the states that are known better than from the list."""
    return tuple(_with_sign(task, signs.of_tasks.get(task.name)) for task in tasks)


def _with_sign(task: TaskView, sign: Sign | None) -> TaskView:
    if sign is None:
        return task
    task, step = replace(task, state=sign.state, tries=max(task.tries, 1)), sign.step
    if step is None or task.started_at is not None:
        return task
    started = datetime.fromtimestamp(round(step.started_s), UTC)
    return replace(
        task,
        started_at=f"{started:%Y-%m-%dT%H:%M:%SZ}",
        seconds=None if step.ended_s is None else round(step.ended_s - step.started_s),
    )


# --- pods -----------------------------------------------------------------------------------


def log_of(cluster: Cluster, run_id: str, node: str) -> PodLog:
    """Return the log of a node's pod; the newest name of a pod that has one.

    Raises:
        ClusterError: the server does not answer.
    """
    log = PodLog("")
    for pod in pods_of(node):
        log = PodLog.of(cluster.log(run_id, pod))
        if log.text:
            return log
    return log


def expected_node(listed: Listed, task: TaskView, tasks: Sequence[TaskView]) -> str | None:
    """Return the id of the node that does the work of a task; KFP need not have listed it yet."""
    if task.task is not None and task.task.nodes:
        return task.task.nodes[-1]
    for other in tasks:
        if other.task is None or not other.task.nodes or other.groups != task.groups:
            continue
        parent = other.task.place.rpartition(".")[0]
        if task.task is not None and task.task.place.rpartition(".")[0] != parent:
            continue
        ids = {number: name for name, number in listed.names.items()}
        above, _, below = ids[other.task.nodes[0]].rpartition(f".{other.task.base}")
        base = task.name.partition("[")[0]
        return node_id(listed.workflow, f"{above}.{base}{below}")
    return None


def _pod_states(
    cluster: Cluster,
    run: Thing,
    listed: Listed,
    tasks: Sequence[TaskView],
    now: datetime,
    *,
    all_tasks: bool,
) -> Iterator[tuple[str, State]]:
    """Yield the states of tasks as the logs of their pods show them, in their order.

    Args:
        all_tasks: also of those that have not started as far as KFP has listed.
    """
    for task in tasks:
        has_pod = task.task is not None and bool(task.task.nodes)
        is_open = has_pod and task.task is not None and task.task.state in ("RUNNING", "PENDING")
        if not is_open and (has_pod or not all_tasks or task.state == "skipped"):
            continue
        node = None if "[" in task.name and not has_pod else expected_node(listed, task, tasks)
        log = PodLog("") if node is None else log_of(cluster, run["run_id"], node)
        state = _state_in(log, now)
        if state is not None:
            yield task.name, state
        elif not has_pod:
            return  # what comes after it has not started either


def _state_in(log: PodLog, now: datetime) -> State | None:
    if not log.text:
        return None
    times = [_time(text) for text in _ARGO_TIME.findall(log.text)]
    last = max((time for time in times if time is not None), default=None)
    if last is not None and now - last < _UPDATE:
        return "running"  # the list would not have changed yet
    if log.has_succeeded:
        return "succeeded"
    if End.parse_last(log.text) is not None or log.launcher_error:
        return "failed"
    return "running"


# --- MLflow ---------------------------------------------------------------------------------


def _tracked_signs(
    run: Thing,
    listed: Listed,
    tasks: Sequence[TaskView],
    known: Tracked,
    now: datetime,
    *,
    is_stale: bool,
) -> dict[str, Sign]:
    """Return the tasks that MLflow knows better than the list.

    What is older than the run is of a run that this one continues.
    """
    of_steps: dict[str, list[TaskView]] = {}
    for task in tasks:
        if task.state != "skipped":
            of_steps.setdefault(step_of(task.name), []).append(task)
    created, changed = _time(str(run.get("created_at"))), _time(listed.changed)
    found: dict[str, Sign] = {}
    for name, step in known.steps.items():
        candidates = of_steps.get(name, [])
        if len(candidates) != 1 or _is_done(candidates[0]):
            continue  # of two branches of a pipeline, MLflow does not say which
        task, last_s = candidates[0], step.ended_s or step.started_s
        if is_stale:
            is_news = step.state == "running" or (created and last_s > created.timestamp())
        else:
            has_pod = task.task is not None and bool(task.task.nodes)
            is_over = step.ended_s is not None and now.timestamp() - last_s > _UPLOAD.seconds
            is_later = changed is not None and last_s > changed.timestamp()
            is_news = is_later and (is_over or not has_pod)
        if is_news:
            found[task.name] = Sign(step.state, step)
    return found


def _is_done(task: TaskView) -> bool:
    return task.task is not None and task.task.state not in ("RUNNING", "PENDING", "OMITTED")


def _note(found: Mapping[str, Sign], pods: Mapping[str, State], known: Tracked) -> str:
    if not found:
        return f"what goes on now is not known: {known.note or 'MLflow has nothing newer'}"
    sources = ["the logs of its pods"] if pods else []
    sources += ["MLflow"] if any(sign.step is not None for sign in found.values()) else []
    return f"what goes on now is taken from {' and '.join(sources)}"


# --- nothing left ---------------------------------------------------------------------------


def _is_lost(
    cluster: Cluster,
    run: Thing,
    listed: Listed,
    tasks: Sequence[TaskView],
    known: Tracked,
    now: datetime,
) -> bool:
    """Whether there is proof that nothing of a run is left, whose running pods have no log.

    That they have none proves something only where MLflow has heard nothing either, or, if it
    cannot be asked, where KFP has the log of a step that has ended.
    """
    is_running = any(task.task and task.task.state == "RUNNING" for task in tasks)
    if not is_running or listed.is_waiting or not is_quiet(listed, now, LOST):
        return False
    if known.last_sign_s is not None:
        return now.timestamp() - known.last_sign_s > LOST.total_seconds()
    ended = [task.task for task in tasks if task.state == "succeeded" and task.task]
    return any(log_of(cluster, run["run_id"], task.nodes[-1]).text for task in ended if task.nodes)


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
