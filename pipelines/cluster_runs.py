"""A run on the cluster as a person sees it: what is sent to start one, its tasks, its end."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pipelines.cluster import ENDED, Cluster, Thing
from pipelines.cluster_errors import ClusterError, tell

_OUTAGE_S = 600.0
"""A wait outlives a server that is away for so long."""
_INNER = ("root", "executor")  # the pipeline itself, and the pod of a task that is listed too


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


def describe(cluster: Cluster, run: Thing) -> Thing:
    """What the commands print of a run, as JSON."""
    return {
        "run_id": run["run_id"],
        "name": run.get("display_name", ""),
        "experiment_id": run.get("experiment_id", ""),
        "state": run.get("state", "PENDING"),
        "created_at": run.get("created_at"),
        "finished_at": run.get("finished_at") if run.get("state") in ENDED else None,
        "url": link(cluster, run["run_id"]),
        "tasks": tasks(run),
        "failed": failures(cluster, run),
    }


def link(cluster: Cluster, run_id: str) -> str | None:
    """The run's page; None where only the address within the cluster is known."""
    ui = cluster.connection.ui
    return None if ui is None else f"{ui}/#/runs/details/{run_id}"


def tasks(run: Thing) -> list[Thing]:
    """The tasks that a person knows, in the order of their start; KFP's drivers are left out."""
    shown = [task for task in _details(run) if _is_ours(task)]
    shown.sort(key=lambda task: task.get("start_time") or task.get("create_time") or "9")
    return [
        {
            "name": task.get("display_name", ""),
            "state": task.get("state", "PENDING"),
            "seconds": _seconds(task),
        }
        for task in shown
    ]


def failures(cluster: Cluster, run: Thing) -> list[Thing]:
    """The tasks that failed, each with what the server says of it; the innermost ones only."""
    failed = [task for task in _details(run) if task.get("state") == "FAILED"]
    parents = {task.get("parent_task_id") for task in failed if _is_ours(task)}
    inner = [task for task in failed if _is_ours(task) and task.get("task_id") not in parents]
    return [
        {
            "name": task.get("display_name", ""),
            "error": tell(cluster.connection, _message(task) or _message(run)),
        }
        for task in inner
    ]


def wait(cluster: Cluster, run_id: str, say: Callable[[str], None], *, poll_s: float) -> Thing:
    """Waits for the end of a run and says each change of a task's state.

    Raises:
        ClusterError: the server refuses, or has been away for ten minutes.
    """
    told: dict[tuple[str, int], str] = {}
    seen_s = time.monotonic()
    is_away = False
    while True:
        try:
            run = cluster.run(run_id)
        except ClusterError as error:
            if not error.is_transient or time.monotonic() - seen_s > _OUTAGE_S:
                raise
            if not is_away:
                say(f"warning: {error}; the run goes on, still waiting")
            is_away = True
        else:
            seen_s, is_away = time.monotonic(), False
            _say_changes(run, told, say)
            if run.get("state") in ENDED:
                return run
        time.sleep(poll_s)


def _say_changes(run: Thing, told: dict[tuple[str, int], str], say: Callable[[str], None]) -> None:
    counts: dict[str, int] = {}
    for task in tasks(run):
        name = task["name"]
        counts[name] = counts.get(name, 0) + 1  # the iterations of a loop bear one name
        key = (name, counts[name])
        if told.get(key) != task["state"]:
            told[key] = task["state"]
            clock = datetime.now(UTC).strftime("%H:%M:%S")
            say(f"{clock}  {name:<24} {shown_state(task)}")


def shown_state(task: Thing) -> str:
    """Such as `succeeded (12 s)`."""
    seconds = task["seconds"]
    duration = "" if seconds is None or task["state"] not in ENDED else f" ({seconds} s)"
    return f"{task['state'].lower()}{duration}"


def _details(run: Thing) -> list[Thing]:
    return list((run.get("run_details") or {}).get("task_details") or [])


def _is_ours(task: Thing) -> bool:
    name = task.get("display_name", "")
    return bool(name) and name not in _INNER and not name.endswith("-driver")


def _message(thing: Thing) -> str:
    return str((thing.get("error") or {}).get("message") or "")


def _seconds(task: Thing) -> int | None:
    start, end = _time(task.get("start_time")), _time(task.get("end_time"))
    return None if start is None or end is None else max(0, round((end - start).total_seconds()))


def _time(text: Any) -> datetime | None:
    """A time as protobuf writes it; the zero of Go's clock means there was none."""
    if not text or str(text).startswith(("0001", "1970")):
        return None
    return datetime.fromisoformat(str(text))
