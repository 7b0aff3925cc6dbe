"""`nas cancel`: stop a run on Kubeflow."""

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError
from pipelines.commands.cluster_options import (
    Find,
    as_json,
    on_cluster,
    poll_option,
    seconds_option,
)
from pipelines.commands.options import given
from pipelines.exit_status import FAILED

if TYPE_CHECKING:
    from pipelines.kubeflow.client import JsonObject
    from pipelines.kubeflow.stopping import StopResult

end_within_option = seconds_option(
    "--end-within",
    "limit_s",
    default=300.0,
    text="Longest wait for the end of a run that is being stopped.",
    least=1,
)


@click.argument("run_id", metavar="RUN", callback=given)
@end_within_option
@poll_option
@as_json
@on_cluster
def cancel(find: Find, run_id: str, limit_s: float, poll_s: float, as_json: bool) -> None:
    """Stop a run on Kubeflow, wait for its end and close it in MLflow; RUN is its id.

    The study keeps the finished children, and nas retry continues the run.
    """
    from pipelines.kubeflow.client import Cluster
    from pipelines.kubeflow.status.run_state import is_ended, run_state, state_named
    from pipelines.kubeflow.stopping import stop

    cluster = Cluster(find())
    run = cluster.run(run_id)
    if is_ended(run):
        message = (
            f"has ended already ({run_state(run)}); nas status {run_id} closes what it "
            "left open in MLflow"
        )
        raise InputError.of("RUN", run_id, message)
    say = partial(click.echo, err=as_json)
    stopped = stop(cluster, run, say, poll_s=poll_s, limit_s=limit_s)
    closing = stopped.closing
    if closing is not None and str(closing):
        click.echo(closing, err=True)
    if as_json:
        is_cancelled = stopped.state == "CANCELED"
        state = state_named(stopped.state)
        shown = {"run_id": run_id, "canceled": is_cancelled, "state": state}
        click.echo(json.dumps({**shown, **({} if closing is None else closing.to_dict())}))
    click.echo(outcome(stopped, run, limit_s), err=as_json)
    if not stopped.is_ended:
        sys.exit(FAILED)


def outcome(stopped: "StopResult", run: "JsonObject", limit_s: float) -> str:
    """Return the outcome of stopping a run as a sentence."""
    from pipelines.kubeflow.status.run_state import run_state

    run_id = run["run_id"]
    name = run.get("display_name") or run_id
    if stopped.is_gone:
        return (
            f"{name} has nothing left that runs: its workflow is gone, as when its schedule was "
            "deleted. Kubeflow shows it as running for ever; it may be archived there."
        )
    if stopped.state == "CANCELED":
        return f"{name} has been cancelled."
    if stopped.is_ended:
        return f"{name} had ended before it was stopped ({run_state(stopped.run)})."
    return (
        f"{name} is being stopped, but has not ended within {limit_s:g} s; nas status --wait "
        f"{run_id} waits for its end and closes it in MLflow."
    )
