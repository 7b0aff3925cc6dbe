"""`nas logs`: the log of a step of a run on Kubeflow."""

import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from pipelines.commands.cluster_options import Find, on_cluster, poll_option
from pipelines.commands.options import given
from pipelines.exit_status import FAILED, INTERRUPTED

if TYPE_CHECKING:
    from pipelines.kubeflow.status.log_reading import LogReader
    from pipelines.kubeflow.status.run_view import TaskView


@click.argument("run_id", metavar="RUN", callback=given)
@click.argument("step", callback=given, required=False)
@click.option(
    "--follow", "-f", "is_following", is_flag=True, help="Print new lines until the step ends."
)
@click.option(
    "--tail", type=click.IntRange(min=0), metavar="N", help="Print only the last N lines [all]."
)
@click.option("--raw", is_flag=True, help="Also print lines of Argo and of KFP's programs.")
@poll_option
@on_cluster
def logs(
    find: Find,
    run_id: str,
    step: str | None,
    is_following: bool,
    tail: int | None,
    raw: bool,
    poll_s: float,
) -> None:
    """Print the log of a step of a run on Kubeflow; RUN is its id, STEP a task of nas status.

    The default STEP is the one that has failed, else the one that runs.
    """
    from pipelines.kubeflow.client import Cluster
    from pipelines.kubeflow.status.log_reading import LogReader

    reader = LogReader(Cluster(find()), run_id, raw=raw)
    try:
        if is_following:
            _follow(reader, step, tail, poll_s)
        else:
            _print_once(reader, reader.choose(step), tail)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _print_once(reader: "LogReader", task: "TaskView", tail: int | None) -> None:
    lines = reader.new_lines(task)
    if not reader.has_log:
        click.echo(reader.no_log(task), err=True)
        sys.exit(FAILED)
    _print(reader, lines + reader.rest(), tail)


def _follow(reader: "LogReader", step: str | None, tail: int | None, poll_s: float) -> None:
    """Print new lines of a step, try after try, until it has ended."""
    from pipelines.kubeflow.runs import request_with_retries

    say = partial(click.echo, err=True)
    task = reader.choose(step)
    is_first, waits_for = True, ""
    while True:
        lines = request_with_retries(partial(reader.new_lines, task), say, poll_s=poll_s)
        if reader.is_new_try and not is_first:
            say(f"--- try {task.tries} of {task.name}")
        if lines:
            _print(reader, lines, tail if is_first else None)
            is_first = False
        if task.is_final:
            break
        if not reader.has_log and waits_for != task.name:
            waits_for = task.name
            say(f"{task.name} has no log yet ({reader.why_not}); waiting")
        time.sleep(max(poll_s, reader.pause_s))
        task = request_with_retries(partial(reader.choose, task.name), say, poll_s=poll_s)
    if is_first and not reader.has_log:
        click.echo(reader.no_log(task), err=True)
        sys.exit(FAILED)
    _print(reader, reader.rest(), None)
    say(f"{task.name} {task.state}")


def _print(reader: "LogReader", lines: list[str], tail: int | None) -> None:
    if reader.left_out:
        click.echo(f"The log has {reader.left_out}; its end follows.", err=True)
    for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
        click.echo(line)
