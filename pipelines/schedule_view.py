"""What a person sees of the schedules on Kubeflow."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError
from pipelines import cron

if TYPE_CHECKING:
    from pipelines.cluster import Cluster, Thing

_TIMES = 3
_CLOCK = "%Y-%m-%d %H:%M:%S UTC"


def say_times(expression: str, *, as_json: bool) -> None:
    """Says when, in words, and the next times."""
    times = cron.next_times(expression, datetime.now(UTC), _TIMES)
    lines = [f"{cron.words(expression)} (UTC). The next times:"]
    lines += [f"  {time.strftime(_CLOCK)}" for time in times]
    click.echo("\n".join(lines), err=as_json)


def find_one(cluster: "Cluster", which: str) -> "Thing":
    """The schedule of that id or name.

    Raises:
        InputError: there is none, or there are several of that name.
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


def last_runs(cluster: "Cluster", schedules: list["Thing"]) -> dict[str, "Thing"]:
    """The newest run of each schedule among the newest hundred of its experiment."""
    last: dict[str, Thing] = {}
    for experiment_id in sorted({str(each.get("experiment_id", "")) for each in schedules} - {""}):
        for run in cluster.newest_runs(experiment_id):
            last.setdefault(run.get("recurring_run_id", ""), run)
    return last


def describe(found: "Thing", last: dict[str, "Thing"]) -> "Thing":
    """A schedule as JSON; `last` has the newest run of each."""
    from pipelines.run_state import state_of

    trigger = found.get("trigger") or {}
    expression = (trigger.get("cron_schedule") or {}).get("cron", "")
    state = found.get("status") or f"{found.get('mode', 'ENABLE')}D"
    when, times = _when(trigger, expression)
    run = last.get(found["recurring_run_id"])
    return {
        "schedule_id": found["recurring_run_id"],
        "name": found.get("display_name", ""),
        "cron": expression,
        "when": when,
        "next": times if state == "ENABLED" else [],
        "state": state,
        "last_run": None if run is None else {"run_id": run["run_id"], "state": state_of(run)},
    }


def _when(trigger: "Thing", expression: str) -> tuple[str, list[str]]:
    """In words, and the next times; others may have made schedules that we would refuse."""
    if not expression:
        seconds = (trigger.get("periodic_schedule") or {}).get("interval_second", "?")
        return f"Every {seconds} s", []
    try:
        checked = cron.check(expression)
    except InputError:
        return expression, []
    times = cron.next_times(checked, datetime.now(UTC), _TIMES)
    return cron.words(checked), [time.strftime(_CLOCK) for time in times]
