"""A run on the cluster as a person sees it: what is sent to start one, its tasks, its end."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import yaml

from pipelines.cluster import ENDED, Cluster, Thing
from pipelines.cluster_errors import ClusterError
from pipelines.run_end import Failure, failures, state_of
from pipelines.task_nodes import OMITTED, Task, tasks_of

_OUTAGE_S = 600.0
"""A wait outlives a server that is away for so long."""
_Answer = TypeVar("_Answer")

Say = Callable[[str], None]
"""Tells a person a line."""


def without_caching(file: Path) -> None:
    """Turns KFP's cache off for all tasks of a compiled pipeline: what is cached trains nothing."""
    documents = list(yaml.safe_load_all(file.read_text()))
    spec = documents[0]
    dags = [spec["root"], *spec.get("components", {}).values()]
    for dag in dags:
        for task in dag.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    file.write_text(yaml.safe_dump_all(documents, sort_keys=True))


def spec_of(file: Path) -> Thing:
    """A compiled pipeline as a request holds it; with what it asks of the cluster, if anything."""
    spec, *platform = yaml.safe_load_all(file.read_text())
    return {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else dict(spec)


def describe(cluster: Cluster, run: Thing, found: list[Failure] | None = None) -> Thing:
    """What the commands print of a run, as JSON.

    Args:
        found: why it failed, if somebody has asked already.
    """
    found = failures(cluster, run) if found is None else found
    return {
        "run_id": run["run_id"],
        "name": run.get("display_name", ""),
        "experiment_id": run.get("experiment_id", ""),
        "state": state_of(run),
        "created_at": run.get("created_at"),
        "finished_at": run.get("finished_at") if is_ended(run) else None,
        "url": link(cluster, run["run_id"]),
        "tasks": [_shown(task) for task in tasks_of(run)],
        "failed": [failure.to_dict() for failure in found],
    }


def is_ended(run: Thing) -> bool:
    """Whether a run stays in its state."""
    return run.get("state") in ENDED


def link(cluster: Cluster, run_id: str) -> str | None:
    """The run's page; None where only the address within the cluster is known."""
    ui = cluster.connection.ui
    return None if ui is None else f"{ui}/#/runs/details/{run_id}"


def wait(
    cluster: Cluster, run_id: str, say: Say, *, poll_s: float, limit_s: float | None = None
) -> Thing:
    """Waits for the end of a run and says each change of a task's state.

    Args:
        say: is told the changes.
        limit_s: the wait ends after so many seconds, too; the run that is returned goes on then.

    Raises:
        ClusterError: the server refuses, or has been away for ten minutes.
    """
    told: dict[tuple[str, int], str] = {}
    start_s = time.monotonic()
    while True:
        run = patiently(lambda: cluster.run(run_id), say, poll_s=poll_s)
        _say_changes(run, told, say)
        is_over = limit_s is not None and time.monotonic() - start_s > limit_s
        if is_ended(run) or is_over:
            return run
        time.sleep(poll_s)


def patiently(request: Callable[[], _Answer], say: Say, *, poll_s: float) -> _Answer:
    """The answer to a request that may be sent many times, from a server that may be away.

    Args:
        say: is told once that the server is away.
        poll_s: pause between two requests.

    Raises:
        ClusterError: the server refuses, or has been away for ten minutes.
    """
    start_s, is_away = time.monotonic(), False
    while True:
        try:
            return request()
        except ClusterError as error:
            if not error.is_transient or time.monotonic() - start_s > _OUTAGE_S:
                raise
            if not is_away:
                say(f"warning: {error}; the run goes on, still waiting")
            is_away = True
        time.sleep(poll_s)


def _say_changes(run: Thing, told: dict[tuple[str, int], str], say: Say) -> None:
    counts: dict[str, int] = {}
    for task in (_shown(task) for task in tasks_of(run)):
        name = task["name"]
        counts[name] = counts.get(name, 0) + 1  # the iterations of a loop bear one name
        key = (name, counts[name])
        if told.get(key) != task["state"]:
            told[key] = task["state"]
            clock = datetime.now(UTC).strftime("%H:%M:%S")
            say(f"{clock}  {name:<24} {shown_state(task)}")


def shown_state(task: Thing) -> str:
    """Such as `succeeded (12 s)`."""
    if task["state"] == OMITTED:
        return "not started"
    seconds = task["seconds"]
    duration = "" if seconds is None or task["state"] not in ENDED else f" ({seconds} s)"
    return f"{task['state'].lower()}{duration}"


def _shown(task: Task) -> Thing:
    return {"name": task.name, "state": task.state, "seconds": _seconds(task)}


def _seconds(task: Task) -> int | None:
    if not task.start or not task.end:
        return None
    passed = datetime.fromisoformat(task.end) - datetime.fromisoformat(task.start)
    return max(0, round(passed.total_seconds()))
