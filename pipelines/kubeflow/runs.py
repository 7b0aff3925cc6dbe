"""A run on the cluster: what is sent to start one, and the wait for its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import yaml

from pipelines.kubeflow.client import Cluster, Thing
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.status.run_state import is_ended, state_of
from pipelines.kubeflow.status.watching import Say, Watch

_OUTAGE_S = 600.0
"""A wait outlives a server that is away for so long."""
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Waited:
    """What a wait came to.

    Attributes:
        run: as it was last.
        lost: how it is known that nothing of it is left, although Kubeflow calls it running.
    """

    run: Thing
    lost: str | None = None


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


def wait(
    cluster: Cluster, run_id: str, say: Say, *, poll_s: float, limit_s: float | None = None
) -> Waited:
    """Waits for the end of a run and says each change of a task's state.

    Args:
        say: prints the changes.
        limit_s: the wait ends after so many seconds, too; the run that is returned goes on then.

    Raises:
        ClusterError: the server refuses, or has been away for ten minutes.
    """
    watch, start_s = Watch(cluster, say), time.monotonic()
    while True:
        run = call_with_retries(lambda: cluster.run(run_id), say, poll_s=poll_s)
        lost = call_with_retries(partial(watch.look, run), say, poll_s=poll_s)
        if is_ended(run) or (limit_s is not None and time.monotonic() - start_s > limit_s):
            return Waited(run)
        if lost is not None and (limit_s is None or state_of(run) == "CANCELING"):
            return Waited(run, lost)
        time.sleep(poll_s)


def call_with_retries(request: Callable[[], _Answer], say: Say, *, poll_s: float) -> _Answer:
    """The answer to a request that may be sent many times, from a server that may be away.

    Args:
        say: prints once that the server is away.
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
