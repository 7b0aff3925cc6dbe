"""Following a run on Kubeflow: its tasks, its end and the reason, and its retries."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import click

from pipelines.exit_status import FAILED, INTERRUPTED
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.closing import close_after
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.retry import chain_of, request
from pipelines.kubeflow.run_origin import origin_of
from pipelines.kubeflow.runs import request_with_retries, wait
from pipelines.kubeflow.starting import start_run
from pipelines.kubeflow.status.run_end import Failure, deciding, failures, is_passing
from pipelines.kubeflow.status.run_state import is_ended
from pipelines.kubeflow.status.run_status import Status, link, status_of
from pipelines.kubeflow.status.run_text import after_table, lines_of
from pipelines.kubeflow.status.tracked_runs import Closing

_ENDS = {
    "failed": "has failed.",
    "cancelled": "has been cancelled.",
    "running": "has not ended.",
}
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Following:
    """How a command follows a run.

    Attributes:
        poll_s: pause between two requests.
        as_json: standard output contains one line of JSON and nothing else.
        retries: number of times that a run which an outage or a lost pod has ended is restarted.
        also: further content of the JSON.
        started: ids of the runs that were started, oldest first.
    """

    cluster: Cluster
    poll_s: float
    as_json: bool
    retries: int = 0
    also: Mapping[str, Any] = field(default_factory=dict)
    started: tuple[str, ...] = ()

    @property
    def say(self) -> Callable[[str], None]:
        return partial(click.echo, err=self.as_json)

    def to_end(self, run: JsonObject) -> None:
        """Wait for the end of a run and of its retries; exit with the status of the last one."""
        follow = self
        try:
            while True:
                waited = wait(self.cluster, run["run_id"], self.say, poll_s=self.poll_s)
                run = waited.run
                found = self._with_retries(partial(failures, self.cluster, run))
                if waited.lost or not follow.retries or not is_passing(found):
                    break
                run = follow._again(run, found)
                started = (*follow.started, run["run_id"])
                follow = replace(follow, retries=follow.retries - 1, started=started)
        except KeyboardInterrupt:
            click.echo(_next(run), err=True)
            sys.exit(INTERRUPTED)
        except ClusterError as error:
            click.echo(f"{error}\n{_deleted(run) if error.is_missing else _next(run)}", err=True)
            sys.exit(error.exit_status)
        follow._finish(run, found)

    def show(self, run: JsonObject) -> None:
        """Print the status of a run, as a text or as JSON."""
        status = status_of(self.cluster, run)
        if not self.as_json:
            click.echo("\n".join(lines_of(status, self.cluster.pods_namespace())))
        self._end_with(status, close_after(self.cluster, run, list(status.found)))

    def _with_retries(self, request: Callable[[], _Answer]) -> _Answer:
        return request_with_retries(request, self.say, poll_s=self.poll_s)

    def _again(self, run: JsonObject, found: list[Failure]) -> JsonObject:
        """Start a retry of a run, or adopt one that was started already, as by a lost answer."""

        def once() -> JsonObject:
            origin = origin_of(self.cluster, run)
            chain = chain_of(self.cluster, run, origin.first)
            return chain.going_on() or start_run(
                self.cluster, request(run, origin, chain), self.say
            )

        self.say(f"The run {run['run_id']} has failed ({deciding(found)}).")
        again = self._with_retries(once)
        say_started(self.cluster, again, self.say)
        self.say(f"  it continues the one before; {self.retries - 1} further retries are left")
        return again

    def _finish(self, run: JsonObject, found: list[Failure]) -> None:
        status = self._with_retries(partial(status_of, self.cluster, run, found))
        self._end_with(status, close_after(self.cluster, run, found))
        state = status.view.state
        if state == "succeeded":
            if not self.as_json:
                click.echo(f"The run {run['run_id']} has succeeded.")
            return
        lines = [f"The run {run['run_id']} {_ENDS.get(state, f'has not succeeded ({state}).')}"]
        lines += after_table(status, self.cluster.pods_namespace())
        click.echo("\n".join(lines), err=True)
        sys.exit(FAILED)

    def _end_with(self, status: Status, closing: Closing | None) -> None:
        if closing is not None and str(closing):
            click.echo(closing, err=True)
        if self.as_json:
            runs = {"run_ids": list(self.started)} if self.started else {}
            click.echo(json.dumps({**status.view.to_dict(), **runs, **self.also}))


def say_started(cluster: Cluster, run: JsonObject, say: Callable[[str], None]) -> None:
    """Print that a run has been started, and where to follow it."""
    page = link(cluster, run["run_id"])
    lines = [f"Run {run['run_id']} has been started."]
    lines += [] if page is None else [f"  page:   {page}"]
    lines += [f"  follow: nas status --wait {run['run_id']}"]
    say("\n".join(lines))


def _next(run: JsonObject) -> str:
    if is_ended(run):
        return f"The run has ended; see: nas status {run['run_id']}"
    return f"The run continues; follow: nas status --wait {run['run_id']}"


def _deleted(run: JsonObject) -> str:
    return f"The run {run['run_id']} was deleted in Kubeflow while it was followed."
