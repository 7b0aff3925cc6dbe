"""What a run does where KFP's list of its tasks does not say: signs of its pods and of MLflow.

Argo compresses the status of a workflow beyond 1 MB, and KFP takes no compressed one: then the list
of tasks stands still for good, while the run goes on (KFP 2.17). And when the workflow of a run is
deleted, KFP calls the run RUNNING for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pipelines.kubeflow.client import Cluster, Thing
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.run_origin import Origin
from pipelines.kubeflow.status.pod_signs import log_of, pod_states, time_of_text
from pipelines.kubeflow.status.run_state import State, is_ended, run_state
from pipelines.kubeflow.status.run_view import TaskView
from pipelines.kubeflow.status.task_nodes import Listed
from pipelines.kubeflow.status.tracked_runs import step_of
from pipelines.kubeflow.status.tracked_steps import Tracked, TrackedStep, tracked

QUIET = timedelta(minutes=5)
"""A list that has not changed for so long may stand still."""
LOST = timedelta(minutes=30)
"""A run of which nothing was heard for so long, and has no pods, is lost."""

_UPLOAD = timedelta(minutes=15)  # between the end of a step in MLflow and that of its pod


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
    changed = time_of_text(listed.changed)
    return changed is not None and now - changed > (limit or QUIET)


def stale_since(run: Thing, listed: Listed, now: datetime) -> str | None:
    """Return since when the list stands still, as far as it says so itself."""
    if is_ended(run):
        return listed.changed if listed.is_going_on and listed.changed else None
    is_between = not listed.is_working and run.get("state") == "RUNNING"
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
    """
    since = stale_since(run, listed, now)
    if is_ended(run):
        if since is None or run_state(run) != "failed":
            return Signs(since)  # of a run that succeeded all tasks did
    elif since is None and not is_quiet(listed, now):
        return Signs()
    try:
        return _signs(cluster, run, listed, tasks, origin, now)
    except ClusterError as error:  # a log that cannot be read just now hides no task
        return Signs(since, note=f"what goes on now is not known: {error}")


def _signs(
    cluster: Cluster,
    run: Thing,
    listed: Listed,
    tasks: Sequence[TaskView],
    origin: Origin,
    now: datetime,
) -> Signs:
    """Ask for the logs of pods, and MLflow.

    Raises:
        ClusterError: the server does not answer.
    """
    since = stale_since(run, listed, now)
    pods = dict(pod_states(cluster, run, listed, tasks, now, all_tasks=since is not None))
    if since is None and any(state != "running" for state in pods.values()):
        since = listed.changed
        pods = dict(pod_states(cluster, run, listed, tasks, now, all_tasks=True))
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
    created, changed = time_of_text(str(run.get("created_at"))), time_of_text(listed.changed)
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
