"""`nas schedule delete`: Kubernetes deletes a schedule together with its running runs.

KFP shows such a run as running for ever, and its MLflow runs stay open. So a schedule is deleted
only if no run of it is running, or if the user asks for the end of its runs.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError, Problem
from pipelines.commands.cancel import end_within_option
from pipelines.commands.cluster_options import (
    Find,
    as_json,
    on_cluster,
    poll_option,
    seconds_option,
)
from pipelines.commands.options import given
from pipelines.commands.schedule import schedule
from pipelines.exit_status import FAILED
from pipelines.kubeflow.schedule_view import find_one

if TYPE_CHECKING:
    from pipelines.kubeflow.client import Cluster, JsonObject

    Say = Callable[[str], None]

_DAY_S = 86400.0


@schedule.command()
@click.argument("which", metavar="NAME_OR_ID", callback=given)
@click.option(
    "--when-idle", is_flag=True, help="Pause it, wait for the end of its runs, then delete it."
)
@click.option("--with-runs", is_flag=True, help="Cancel its runs as nas cancel does, then delete.")
@seconds_option(
    "--idle-within",
    "idle_s",
    default=7 * _DAY_S,
    text="With --when-idle: longest wait; the schedule stays paused then.",
)
@end_within_option
@poll_option
@as_json
@on_cluster
def delete(
    find: Find,
    which: str,
    when_idle: bool,
    with_runs: bool,
    idle_s: float,
    limit_s: float,
    poll_s: float,
    as_json: bool,
) -> None:
    """Delete a schedule, without its finished runs.

    Kubernetes would kill running runs of it, and Kubeflow would show them as running for ever. With
    such runs the command is refused: choose --when-idle or --with-runs.
    """
    from pipelines.kubeflow.client import Cluster

    if when_idle and with_runs:
        message = "contradicts --with-runs; give one of them"
        raise InputError([Problem("--when-idle", "", message)])
    cluster = Cluster(find())
    found = find_one(cluster, which)
    schedule_id = str(found["recurring_run_id"])
    runs = _going_on(cluster, found)
    if runs and not (when_idle or with_runs):
        raise InputError.of("NAME_OR_ID", which, _refusal(runs))
    say = partial(click.echo, err=as_json)
    if runs:
        cluster.pause(schedule_id)
    if when_idle:
        _wait_until_idle(cluster, found, say, poll_s=poll_s, limit_s=idle_s)
    elif with_runs:
        _stop_all(cluster, runs, say, poll_s=poll_s, limit_s=limit_s)
    cluster.delete_schedule(schedule_id)
    if as_json:
        stopped = {"runs_canceled": [run["run_id"] for run in runs]} if with_runs else {}
        click.echo(json.dumps({"schedule_id": schedule_id, "done": "deleted", **stopped}))
    else:
        click.echo(f"Schedule {which} has been deleted.")


def _going_on(cluster: "Cluster", found: "JsonObject") -> list["JsonObject"]:
    from pipelines.kubeflow.status.run_state import is_ended

    runs = cluster.runs(
        str(found.get("experiment_id", "")), schedule_id=str(found["recurring_run_id"])
    )
    return [run for run in runs if not is_ended(run)]


def _refusal(runs: list["JsonObject"]) -> str:
    return (
        f"Kubernetes would kill with it what is going on: {_named(runs)}; give --when-idle to let "
        "that end first, or --with-runs to cancel it"
    )


def _named(runs: list["JsonObject"]) -> str:
    return ", ".join(f"{run.get('display_name', '')} ({run['run_id']})" for run in runs)


def _wait_until_idle(
    cluster: "Cluster", found: "JsonObject", say: "Say", *, poll_s: float, limit_s: float
) -> None:
    """Wait until no run of a schedule is running; end the process if that takes too long.

    Raises:
        ClusterError: the server refuses, or has been unreachable for ten minutes.
    """
    from pipelines.kubeflow.runs import request_with_retries

    start_s, names = time.monotonic(), ""
    while runs := request_with_retries(partial(_going_on, cluster, found), say, poll_s=poll_s):
        if _named(runs) != names:
            names = _named(runs)
            say(f"Paused; waiting for the end of {names}.")
        if time.monotonic() - start_s > limit_s:
            click.echo(
                f"Not deleted: {names} is still going on after {limit_s:g} s. The schedule is "
                "paused; delete it later, or resume it.",
                err=True,
            )
            sys.exit(FAILED)
        time.sleep(poll_s)


def _stop_all(
    cluster: "Cluster", runs: list["JsonObject"], say: "Say", *, poll_s: float, limit_s: float
) -> None:
    """Cancel runs, one after the other; end the process if one does not end.

    Raises:
        ClusterError: the server refuses, or has been unreachable for ten minutes.
    """
    from pipelines.commands.cancel import outcome
    from pipelines.kubeflow.stopping import stop

    for run in runs:
        stopped = stop(cluster, run, say, poll_s=poll_s, limit_s=limit_s)
        if stopped.closing is not None and str(stopped.closing):
            click.echo(stopped.closing, err=True)
        say(outcome(stopped, run, limit_s))
        if not stopped.is_ended:
            click.echo("Not deleted: the schedule is paused; delete it later.", err=True)
            sys.exit(FAILED)
