"""To follow a run on the cluster: its tasks, its end and why, and further tries."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import click

from pipelines.cluster import Cluster, Thing
from pipelines.cluster_errors import ClusterError
from pipelines.cluster_runs import describe, is_ended, link, patiently, shown_state, wait
from pipelines.leftovers import close_after
from pipelines.options import FAILED, INTERRUPTED
from pipelines.retry import chain_of, request
from pipelines.run_end import Failure, deciding, failures, is_passing
from pipelines.run_origin import origin_of
from pipelines.tracked_runs import Closing

_CANCELLED = "cancelled"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Following:
    """How a command follows a run.

    Attributes:
        poll_s: pause between two looks.
        as_json: the last line on standard output is JSON, and nothing else goes there.
        retries: how often a run that an outage or a loss has ended is started again.
        also: what the JSON holds besides what it says of the run.
        started: ids of the runs that were started, the first one first.
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

    def to_end(self, run: Thing) -> None:
        """Wait for the end of a run, and of its retries; end the process as the last one ended."""
        follow = self
        try:
            while True:
                run = wait(self.cluster, run["run_id"], self.say, poll_s=self.poll_s)
                found = self._patiently(partial(failures, self.cluster, run))
                if not follow.retries or not is_passing(found):
                    break
                run = follow._again(run, found)
                started = (*follow.started, run["run_id"])
                follow = replace(follow, retries=follow.retries - 1, started=started)
        except KeyboardInterrupt:
            click.echo(_next(run), err=True)
            sys.exit(INTERRUPTED)
        except ClusterError as error:
            click.echo(f"{error}\n{_next(run)}", err=True)
            sys.exit(error.exit_status)
        follow._finish(run, found)

    def show(self, run: Thing) -> None:
        """Say how a run is now; print the JSON if asked."""
        found = failures(self.cluster, run)
        told = describe(self.cluster, run, found)
        if not self.as_json:
            say_run(told)
        self._end_with(told, close_after(self.cluster, run, found))

    def _patiently(self, request: Callable[[], _Answer]) -> _Answer:
        return patiently(request, self.say, poll_s=self.poll_s)

    def _again(self, run: Thing, found: list[Failure]) -> Thing:
        """Start a run again; take up a retry that a lost answer, or somebody else, has started."""

        def once() -> Thing:
            origin = origin_of(self.cluster, run)
            chain = chain_of(self.cluster, run, origin.first)
            return chain.going_on() or self.cluster.create_run(request(run, origin, chain))

        self.say(f"The run {run['run_id']} has failed ({deciding(found)}).")
        again = self._patiently(once)
        say_started(self.cluster, again, self.say)
        self.say(f"  it continues the one before; {self.retries - 1} further retries are left")
        return again

    def _finish(self, run: Thing, found: list[Failure]) -> None:
        told = describe(self.cluster, run, found)
        self._end_with(told, close_after(self.cluster, run, found))
        if told["state"] == "SUCCEEDED":
            if not self.as_json:
                click.echo(f"The run {run['run_id']} has succeeded.")
            return
        _say_failed(told)
        sys.exit(FAILED)

    def _end_with(self, told: Thing, closing: Closing | None) -> None:
        if closing is not None and str(closing):
            click.echo(closing, err=True)
        if self.as_json:
            runs = {"run_ids": list(self.started)} if self.started else {}
            closed = {} if closing is None else closing.to_dict()
            click.echo(json.dumps({**told, **closed, **runs, **self.also}))


def say_started(cluster: Cluster, run: Thing, say: Callable[[str], None]) -> None:
    """Say that a run has been started, and where it is seen."""
    page = link(cluster, run["run_id"])
    lines = [f"Run {run['run_id']} has been started."]
    lines += [] if page is None else [f"  page:   {page}"]
    lines += [f"  follow: nas status --wait {run['run_id']}"]
    say("\n".join(lines))


def say_run(told: Thing) -> None:
    """Say how a run is."""
    click.echo(f"{told['name']}: {_word(told)}")
    for task in told["tasks"]:
        click.echo(f"  {task['name']:<24} {shown_state(task)}")
    for failure in told["failed"]:
        click.echo(f"  {failure['name']} failed: {failure['kind']}: {failure['error']}")
    if told["url"] is not None:
        click.echo(f"  page: {told['url']}")


def _say_failed(told: Thing) -> None:
    if told["state"] == "CANCELED":
        click.echo(f"The run {told['run_id']} has been cancelled.", err=True)
    else:
        lines = [
            f"The step {fault['name']} failed: {fault['kind']}: {fault['error']}"
            for fault in told["failed"]
        ]
        title = f"The run {told['run_id']} has not succeeded ({_word(told)}):"
        click.echo("\n  ".join([title, *lines]), err=True)
        if any(fault["kind"] in ("outage", "lost") for fault in told["failed"]):
            click.echo(f"  again: nas retry {told['run_id']}", err=True)
    if told["url"] is not None:
        click.echo(f"  page: {told['url']}", err=True)


def _word(told: Thing) -> str:
    return _CANCELLED if told["state"] == "CANCELED" else str(told["state"]).lower()


def _next(run: Thing) -> str:
    if is_ended(run):
        return f"The run has ended; see: nas status {run['run_id']}"
    return f"The run goes on; follow: nas status --wait {run['run_id']}"
