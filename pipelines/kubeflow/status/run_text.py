"""Text of `nas status`: a table of the tasks, why the run failed, and what to do next."""

from collections.abc import Iterator, Sequence

from components.progress import duration
from pipelines.kubeflow.columns import aligned
from pipelines.kubeflow.status.run_end import Failure, deciding
from pipelines.kubeflow.status.run_status import Status
from pipelines.kubeflow.status.run_view import RunView, TaskView
from pipelines.kubeflow.status.tracked_runs import step_of

_HEADER = ("task", "state", "started (UTC)", "took", "tries")
_MOST = 3
"""Number of failures that are printed."""


def lines_of(status: Status, namespace: str) -> Iterator[str]:
    """Yield what `nas status` prints.

    Args:
        namespace: namespace of the pods, for kubectl commands.
    """
    view = status.view
    yield f"{view.name or view.run_id}: {view.state}"
    yield from table(view.tasks)
    yield from after_table(status, namespace)


def table(tasks: Sequence[TaskView]) -> Iterator[str]:
    """Yield a line for each task."""
    rows = [_HEADER, *(_cells(task) for task in tasks)] if tasks else []
    yield from (f"  {line}" for line in aligned(rows))


def after_table(status: Status, namespace: str) -> Iterator[str]:
    """Yield the remarks below the table, and commands for the next steps."""
    view = status.view
    if view.stale_since is not None:
        yield from _stale(status)
    failed = {failure.name for failure in status.found}
    for task in view.tasks:
        if task.reason is not None and task.name not in failed:
            yield f"{task.name}: {task.reason}"
    if view.reason is not None and not status.found:
        yield f"{view.reason[0].upper()}{view.reason[1:]}."
    yield from failure_lines(status.found)
    steps = list(_next(status, namespace))
    steps += [("page", view.url)] if view.url is not None else []
    width = max((len(title) for title, _ in steps), default=0)
    yield from (f"  {title}:{'':{width - len(title)}} {command}" for title, command in steps)


def failure_lines(found: Sequence[Failure]) -> Iterator[str]:
    """Yield why a run failed."""
    for failure in found[:_MOST]:
        yield f"{failure.name} failed: {failure.cause}"
    if len(found) > _MOST:
        yield f"{len(found) - _MOST} further tasks failed"


def change(task: TaskView) -> str:
    """Return the new state of a task as text, such as `succeeded (12 s)`."""
    took = f" ({duration(task.seconds)})" if task.seconds is not None and task.is_final else ""
    tries = f", try {task.tries}" if task.tries > 1 else ""
    return f"{task.state}{took}{tries}"


def _cells(task: TaskView) -> tuple[str, ...]:
    started = (task.started_at or "")[:19].replace("T", " ")
    took = "" if task.seconds is None else duration(task.seconds)
    return task.name, task.state, started, took, str(task.tries) if task.tries else ""


def _stale(status: Status) -> Iterator[str]:
    since = status.view.stale_since
    yield f"Kubeflow's list of these tasks has not changed since {since}, while the run continued:"
    yield "  it is not updated when Argo's status of a run exceeds 1 MB"
    if status.signs.note:
        yield f"  {status.signs.note}"


def _next(status: Status, namespace: str) -> Iterator[tuple[str, str]]:
    view = status.view
    run_id, failure = view.run_id, deciding(status.found)
    if status.waiting:
        yield "why it waits", f"kubectl describe pods -n {namespace} -l pipeline/runid={run_id}"
        yield "events", f"kubectl get events -n {namespace} --sort-by=.lastTimestamp"
    if status.signs.is_lost:
        yield "close it", f"nas cancel {run_id}"
        yield "continue", f"nas retry {run_id}"
    if failure is not None and view.task(failure.name) is not None:
        yield "its log", f"nas logs {run_id} {quoted(failure.name)}"
    elif view.state == "running" and view.tasks and not (status.waiting or status.signs.is_lost):
        yield "its log", f"nas logs --follow {run_id}"
    if view.state == "cancelled":
        yield "continue", f"nas retry {run_id}"
    elif view.state == "failed":
        yield from _after_failure(view, failure)


def _after_failure(view: RunView, failure: Failure | None) -> Iterator[tuple[str, str]]:
    if failure is not None and failure.kind == "input":
        yield "next", "correct that and start another run: nas submit ..."
    elif failure is not None and failure.kind == "memory":
        step = step_of(failure.name)
        yield "next", f"nas submit ... --set cluster.steps.{step}.memory=MORE"
    else:
        yield "continue", f"nas retry {view.run_id}"


def quoted(name: str) -> str:
    """Return the name of a task quoted for a shell."""
    return f"'{name}'" if "[" in name else name
