"""Output of the commands about schedules on Kubeflow."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError
from pipelines.kubeflow import schedule_times
from pipelines.kubeflow.columns import aligned
from pipelines.kubeflow.compiled_text import inner
from pipelines.kubeflow.pipelines_page import PipelinesPage

if TYPE_CHECKING:
    from pipelines.kubeflow.client import Cluster, JsonObject

_TIMES = 3
_SHOWN_RUNS = 5
_SEARCHED_RUNS = 100
_CLOCK = "%Y-%m-%d %H:%M:%S UTC"
_ZONE = "in the server's CRON_SCHEDULE_TIMEZONE, UTC by default"


def say_times(expression: str, *, as_json: bool) -> None:
    """Print the description of a cron expression and its next times."""
    times = schedule_times.next_times(expression, datetime.now(UTC), _TIMES)
    lines = [f"{schedule_times.describe(expression)}, {_ZONE}. The next times:"]
    lines += [f"  {time.strftime(_CLOCK)}" for time in times]
    lines += ["Runs start up to 30 s later. In another time zone these are its times, not UTC."]
    click.echo("\n".join(lines), err=as_json)


def find_one(cluster: "Cluster", which: str) -> "JsonObject":
    """Return the schedule of an id or name.

    Raises:
        InputError: there is none, or several have the name.
    """
    schedules = cluster.schedules()
    found = [each for each in schedules if each["recurring_run_id"] == which]
    found = found or [each for each in schedules if each.get("display_name") == which]
    if not found:
        raise InputError.of("NAME_OR_ID", which, "there is no such schedule; see nas schedule list")
    if len(found) > 1:
        ids = ", ".join(str(each["recurring_run_id"]) for each in found)
        message = f"is the name of several: {ids}; give the id of one"
        raise InputError.of("NAME_OR_ID", which, message)
    return found[0]


def last_runs(cluster: "Cluster", schedules: list["JsonObject"]) -> dict[str, "JsonObject"]:
    """Return the newest run of each schedule among the newest hundred runs of its experiment."""
    last: dict[str, JsonObject] = {}
    for experiment_id in sorted({str(each.get("experiment_id", "")) for each in schedules} - {""}):
        for run in itertools.islice(cluster.runs(experiment_id), _SEARCHED_RUNS):
            last.setdefault(run.get("recurring_run_id", ""), run)
    return last


def describe(found: "JsonObject", last: dict[str, "JsonObject"]) -> "JsonObject":
    """Return a schedule as JSON; `last` has the newest run of each."""
    trigger = found.get("trigger") or {}
    expression = (trigger.get("cron_schedule") or {}).get("cron", "")
    state = str(found.get("status") or f"{found.get('mode', 'ENABLE')}D").lower()
    when, times = _when(trigger, expression)
    run = last.get(found["recurring_run_id"])
    return {
        "schedule_id": found["recurring_run_id"],
        "name": found.get("display_name", ""),
        "cron": expression,
        "when": when,
        "next": times if state == "enabled" else [],
        "state": state,
        "last_run": None if run is None else _run(run),
    }


def runs_of(cluster: "Cluster", found: "JsonObject") -> list["JsonObject"]:
    """Return the last runs of a schedule, newest first."""
    runs = cluster.runs(
        str(found.get("experiment_id", "")), schedule_id=str(found["recurring_run_id"])
    )
    name_of = cache(PipelinesPage(cluster).name_of)
    return [
        {**_run(run), "pipeline": _pipeline(run, name_of)}
        for run in itertools.islice(runs, _SHOWN_RUNS)
    ]


def lines_of(described: list["JsonObject"]) -> list[str]:
    """Return schedules as a table, each with its runs below it if it has any."""
    rows = [("name", "when", "next", "state", "last run", "id")]
    rows += [
        (
            each["name"],
            each["when"],
            each["next"][0] if each["next"] else "-",
            each["state"],
            "-" if each["last_run"] is None else str(each["last_run"]["state"]),
            each["schedule_id"],
        )
        for each in described
    ]
    lines = []
    for row, each in zip(aligned(rows), [{}, *described], strict=True):
        runs = [
            (run["name"], run["pipeline"] or "-", run["state"], run["run_id"])
            for run in each.get("runs", [])
        ]
        lines += [row, *(f"  {line}" for line in aligned(runs))]
    return lines


def _run(run: "JsonObject") -> "JsonObject":
    """Return a run of a schedule as JSON."""
    from pipelines.kubeflow.status.run_state import run_state

    return {
        "run_id": run["run_id"],
        "name": run.get("display_name", ""),
        "state": run_state(run),
        "created_at": run.get("created_at"),
    }


def _pipeline(run: "JsonObject", name_of: Callable[[str], str | None]) -> str | None:
    """Return the name of a run's pipeline, which KFP's names of scheduled runs do not show."""
    named = run.get("pipeline_version_reference") or {}
    if named.get("pipeline_id"):
        return name_of(str(named["pipeline_id"]))
    info = inner(run.get("pipeline_spec") or {}).get("pipelineInfo") or {}
    return info.get("name")


def _when(trigger: "JsonObject", expression: str) -> tuple[str, list[str]]:
    """Return description and next times; a schedule of another client may be unreadable."""
    if not expression:
        seconds = (trigger.get("periodic_schedule") or {}).get("interval_second", "?")
        return f"Every {seconds} s", []
    try:
        checked = schedule_times.check(expression)
    except InputError:
        return expression, []
    times = schedule_times.next_times(checked, datetime.now(UTC), _TIMES)
    return schedule_times.describe(checked), [time.strftime(_CLOCK) for time in times]
