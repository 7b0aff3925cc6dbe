"""A run on Kubeflow: the request that starts one, and the wait for its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import yaml

from nascore.retries import Backoff, call_with_retries
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.status.run_state import is_ended, state_of
from pipelines.kubeflow.status.watching import Say, Watch

_OUTAGE_S = 600.0
"""Longest outage of the server that a wait survives."""
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class WaitResult:
    """Result of a wait.

    Attributes:
        run: last known state of the run.
        lost: evidence that nothing of it is left although Kubeflow shows it as running, or None.
    """

    run: JsonObject
    lost: str | None = None


def without_caching(file: Path) -> None:
    """Disable KFP's cache for all tasks of a compiled pipeline: a cached task trains nothing."""
    documents = list(yaml.safe_load_all(file.read_text()))
    spec = documents[0]
    dags = [spec["root"], *spec.get("components", {}).values()]
    for dag in dags:
        for task in dag.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    file.write_text(yaml.safe_dump_all(documents, sort_keys=True))


def spec_of(file: Path) -> JsonObject:
    """Return a compiled pipeline as requests hold it, with its platform settings if it has any."""
    spec, *platform = yaml.safe_load_all(file.read_text())
    return {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else dict(spec)


def wait(
    cluster: Cluster, run_id: str, say: Say, *, poll_s: float, limit_s: float | None = None
) -> WaitResult:
    """Wait for the end of a run and print each change of a task's state.

    Args:
        say: prints the changes.
        poll_s: pause between two requests.
        limit_s: longest wait; a run that is returned after it is still going on. None: no limit.

    Raises:
        ClusterError: the server refuses, or has been unreachable for ten minutes.
    """
    watch, start_s = Watch(cluster, say), time.monotonic()
    while True:
        run = request_with_retries(lambda: cluster.run(run_id), say, poll_s=poll_s)
        lost = request_with_retries(partial(watch.look, run), say, poll_s=poll_s)
        if is_ended(run) or (limit_s is not None and time.monotonic() - start_s > limit_s):
            return WaitResult(run)
        if lost is not None and (limit_s is None or state_of(run) == "CANCELING"):
            return WaitResult(run, lost)
        time.sleep(poll_s)


def request_with_retries(request: Callable[[], _Answer], say: Say, *, poll_s: float) -> _Answer:
    """Return the answer to a request; repeat the request while the server is unreachable.

    Args:
        request: one that may be sent many times.
        say: prints once that the server is unreachable.
        poll_s: longest pause between two requests.

    Raises:
        ClusterError: the server refuses, or has been unreachable for ten minutes.
    """
    warnings: list[str] = []

    def warn(error: BaseException) -> None:
        if not warnings:
            warnings.append(f"warning: {error}; the run continues, still waiting")
            say(warnings[0])

    return call_with_retries(
        request,
        is_transient=lambda error: isinstance(error, ClusterError) and error.is_transient,
        timeout_s=_OUTAGE_S,
        backoff=Backoff(first_pause_s=poll_s, longest_pause_s=poll_s),
        on_retry=warn,
    )
