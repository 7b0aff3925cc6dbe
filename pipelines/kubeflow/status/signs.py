"""State of a run where KFP's list of its tasks is stale, from the logs of pods and from MLflow.

Argo compresses the status of a workflow above 1 MB, and KFP does not read a compressed status: from
then on the list of tasks never changes while the run continues (KFP 2.17). After the workflow of a
run is deleted, KFP shows the run as RUNNING for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pipelines.kubeflow import clock
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.run_origin import Origin
from pipelines.kubeflow.status.node_places import parse_time
from pipelines.kubeflow.status.pipeline_tasks import planned
from pipelines.kubeflow.status.pod_signs import log_of, pod_states
from pipelines.kubeflow.status.run_state import State, is_ended, run_state
from pipelines.kubeflow.status.run_view import TaskView, task_views
from pipelines.kubeflow.status.task_nodes import TaskList, read
from pipelines.kubeflow.status.tracked_runs import step_of
from pipelines.kubeflow.status.tracked_steps import MlflowSteps, TrackedStep, tracked

QUIET = timedelta(minutes=5)
"""A list that has not changed for this time may be stale."""
LOST = timedelta(minutes=30)
"""A run without pods and without any sign for this time is lost."""

_UPLOAD = timedelta(minutes=15)  # between the end of a step in MLflow and that of its pod


@dataclass(frozen=True, slots=True)
class TaskSign:
    """State of a task according to its pod or MLflow.

    Attributes:
        step: times of its step; None if only its pod is known.
    """

    state: State
    step: TrackedStep | None = None


@dataclass(frozen=True, slots=True)
class RunSigns:
    """Knowledge about a run beyond KFP's list.

    Attributes:
        stale_since: last change of the list, if the run continued after it; None for a list that
            is up to date.
        of_tasks: signs by task name, where they are newer than the list.
        is_lost: whether nothing of the run seems to be left although KFP shows it as running.
        note: source of the signs, or why there are none.
    """

    stale_since: str | None = None
    of_tasks: Mapping[str, TaskSign] = field(default_factory=dict)
    is_lost: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """State of a run at one time.

    Attributes:
        tasks: tasks in the states that the list and the signs show, without reasons.
    """

    listed: TaskList
    tasks: tuple[TaskView, ...]
    signs: RunSigns
    now: datetime


def observe(cluster: Cluster, run: JsonObject, origin: Origin) -> Observation:
    """Return the tasks of a run by KFP's list, corrected by signs where the list is stale."""
    listed, now = read(run), clock.now()
    tasks = task_views(run, listed, planned(origin.pipeline), now=now)
    signs = look_for_signs(cluster, run, listed, tasks, origin, now)
    return Observation(listed, with_signs(tasks, signs), signs, now)


def is_quiet(listed: TaskList, now: datetime, limit: timedelta | None = None) -> bool:
    """Return whether the list has not changed for a while, as is usual during a long step."""
    changed = parse_time(listed.changed)
    return changed is not None and now - changed > (limit or QUIET)


def stale_since(run: JsonObject, listed: TaskList, now: datetime) -> str | None:
    """Return since when the list is stale, as far as the list itself shows it."""
    if is_ended(run):
        return listed.changed if listed.is_going_on and listed.changed else None
    is_between = not listed.is_working and run.get("state") == "RUNNING"
    return listed.changed if is_between and is_quiet(listed, now) else None


def look_for_signs(
    cluster: Cluster,
    run: JsonObject,
    listed: TaskList,
    tasks: Sequence[TaskView],
    origin: Origin,
    now: datetime,
) -> RunSigns:
    """Look for signs of a run whose list may be stale; send no request if it is up to date.

    Args:
        origin: what the run was started with.
    """
    since = stale_since(run, listed, now)
    if is_ended(run):
        if since is None or run_state(run) != "failed":
            return RunSigns(since)  # all tasks of a run that succeeded have succeeded
    elif since is None and not is_quiet(listed, now):
        return RunSigns()
    try:
        return _signs(cluster, run, listed, tasks, origin, now)
    except ClusterError as error:  # without the logs, the list is all that is shown
        return RunSigns(since, note=f"the current state is unknown: {error}")


def _signs(
    cluster: Cluster,
    run: JsonObject,
    listed: TaskList,
    tasks: Sequence[TaskView],
    origin: Origin,
    now: datetime,
) -> RunSigns:
    """Read the logs of pods, and MLflow.

    Raises:
        ClusterError: the server does not answer.
    """
    since = stale_since(run, listed, now)
    pods = dict(pod_states(cluster, run, listed, tasks, now, all_tasks=since is not None))
    if since is None and any(state != "running" for state in pods.values()):
        since = listed.changed
        pods = dict(pod_states(cluster, run, listed, tasks, now, all_tasks=True))
    elif since is None and pods:
        return RunSigns()  # its pods work, as the list shows
    known = tracked(origin)
    found = _tracked_signs(run, listed, tasks, known, now, is_stale=since is not None)
    if since is None and not found:
        return RunSigns(is_lost=_is_lost(cluster, run, listed, tasks, known, now))
    for name, state in pods.items():
        found[name] = TaskSign(state, found[name].step if name in found else None)
    if is_ended(run):
        found = {name: sign for name, sign in found.items() if sign.state != "running"}
    return RunSigns(since or listed.changed, found, note=_note(found, pods, known))


def with_signs(tasks: Sequence[TaskView], signs: RunSigns) -> tuple[TaskView, ...]:
    """Return tasks with the states that signs show instead of those of the list."""
    return tuple(_with_sign(task, signs.of_tasks.get(task.name)) for task in tasks)


def _with_sign(task: TaskView, sign: TaskSign | None) -> TaskView:
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


# --- MLflow ---------------------------------------------------------------------------------


def _tracked_signs(
    run: JsonObject,
    listed: TaskList,
    tasks: Sequence[TaskView],
    known: MlflowSteps,
    now: datetime,
    *,
    is_stale: bool,
) -> dict[str, TaskSign]:
    """Return the tasks for which MLflow is newer than the list.

    Entries older than the run belong to the run that it continues.
    """
    of_steps: dict[str, list[TaskView]] = {}
    for task in tasks:
        if task.state != "skipped":
            of_steps.setdefault(step_of(task.name), []).append(task)
    created, changed = parse_time(run.get("created_at")), parse_time(listed.changed)
    found: dict[str, TaskSign] = {}
    for name, step in known.steps.items():
        candidates = of_steps.get(name, [])
        if len(candidates) != 1 or _is_done(candidates[0]):
            continue  # MLflow does not show which of two branches of a pipeline ran
        task, last_s = candidates[0], step.ended_s or step.started_s
        if is_stale:
            is_news = step.state == "running" or (created and last_s > created.timestamp())
        else:
            has_pod = task.task is not None and bool(task.task.nodes)
            is_over = step.ended_s is not None and now.timestamp() - last_s > _UPLOAD.seconds
            is_later = changed is not None and last_s > changed.timestamp()
            is_news = is_later and (is_over or not has_pod)
        if is_news:
            found[task.name] = TaskSign(step.state, step)
    return found


def _is_done(task: TaskView) -> bool:
    return task.task is not None and task.task.state not in ("RUNNING", "PENDING", "OMITTED")


def _note(found: Mapping[str, TaskSign], pods: Mapping[str, State], known: MlflowSteps) -> str:
    if not found:
        return f"the current state is unknown: {known.note or 'MLflow has nothing newer'}"
    sources = ["the logs of its pods"] if pods else []
    sources += ["MLflow"] if any(sign.step is not None for sign in found.values()) else []
    return f"the current state is taken from {' and '.join(sources)}"


# --- nothing left ---------------------------------------------------------------------------


def _is_lost(
    cluster: Cluster,
    run: JsonObject,
    listed: TaskList,
    tasks: Sequence[TaskView],
    known: MlflowSteps,
    now: datetime,
) -> bool:
    """Return whether there is proof that nothing is left of a run whose running pods have no log.

    A missing log proves it only if MLflow has received nothing either, or, if MLflow cannot be
    reached, if KFP has the log of a step that has ended.
    """
    is_running = any(task.task and task.task.state == "RUNNING" for task in tasks)
    if not is_running or listed.is_waiting or not is_quiet(listed, now, LOST):
        return False
    if known.last_sign_s is not None:
        return now.timestamp() - known.last_sign_s > LOST.total_seconds()
    ended = [task.task for task in tasks if task.state == "succeeded" and task.task]
    return any(log_of(cluster, run["run_id"], task.nodes[-1]).text for task in ended if task.nodes)
