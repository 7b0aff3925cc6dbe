"""Ends the MLflow runs that ended pipelines have left RUNNING, with the reason as tags.

A step that is killed has no time to end its MLflow run. So each process that learns of the end does
it: the exit task, `nas cancel` and `nas status`, and the first step of the next run. All of it may
be done twice. Runs that Kubeflow's MLflow plugin made are left for Kubeflow to end; they get the
reason.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.ending import TAG_KIND, TAG_REASON
from components.tracking.lineage import KFP_RUN_ID
from components.tracking.pipeline_runs import (
    FINISHED,
    RUNNING,
    Closed,
    Status,
    ask_store,
    end_runs,
    key_of,
    runs_of,
    search,
)
from components.tracking.signs_of_life import what_is_over
from components.tracking.tags import ADOPTED

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOST = "lost"
"""Kind of an end without a reason from the step."""
_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class TrackedState:
    """A pipeline run as MLflow has it.

    Attributes:
        run_id: MLflow's id of the pipeline's run.
        experiment_id: where it is.
        status: of that run: RUNNING, FINISHED, FAILED or KILLED.
        reason: why it ended badly; None when nothing was written.
        kind: of the end, as in `components.ending`, or `lost`.
        open_keys: keys of the runs that are RUNNING, of steps and children included, but those
            that Kubeflow ends.
    """

    run_id: str
    experiment_id: str
    status: str
    reason: str | None
    kind: str | None
    open_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndedRun:
    """An earlier pipeline run with MLflow runs that were ended.

    Attributes:
        reason: how it is known that it is over.
        is_over: whether all of it is over; otherwise some of its steps are.
    """

    run_key: str
    kfp_run_id: str
    reason: str
    is_over: bool
    closed: Closed


def close_run(
    *,
    uri: str,
    run_key: str,
    experiment: str,
    status: Status,
    reason: str,
    kind: str,
    limit_s: float = _LIMIT_S,
) -> Closed:
    """End every run of a pipeline that is still RUNNING: its own, its steps' and their children's.

    A run that has ended keeps its status; the pipeline's is given the reason where it has none.

    Args:
        run_key: tag `nas.run_key` of the pipeline's run; `KEY.STEP` are those of its steps.
        experiment: where they are; runs adopted from Kubeflow are looked for in all experiments.
        reason: why it ended; empty where there is nothing to say.
        limit_s: time limit of all requests to the store.

    Raises:
        ResourceUnavailable: the store does not answer, or refuses access.
    """

    def close(client: "MlflowClient") -> Closed:
        runs = runs_of(client, run_key, experiment)
        return end_runs(client, runs, status=status, reason=reason, kind=kind)

    return ask_store(uri, limit_s, close) or Closed()


def status_of(
    *, uri: str, run_key: str, experiment: str | None = None, limit_s: float = _LIMIT_S
) -> TrackedState | None:
    """Return a pipeline run as MLflow has it; None when it has no such run.

    Raises:
        ResourceUnavailable: the store does not answer, or refuses access.
    """

    def look(client: "MlflowClient") -> TrackedState | None:
        runs = runs_of(client, run_key, experiment)
        own = [run for run in runs if key_of(run) == run_key]
        if not own:
            return None
        last = own[-1]  # Kubeflow's plugin makes another one for a run that is started again
        reason, kind = last.data.tags.get(TAG_REASON), last.data.tags.get(TAG_KIND)
        if reason is None and last.info.status != FINISHED:
            reason, kind = _reason_of_steps(runs)
        return TrackedState(
            run_id=last.info.run_id,
            experiment_id=last.info.experiment_id,
            status=last.info.status,
            reason=reason,
            kind=kind,
            open_keys=tuple(
                key_of(run)
                for run in runs
                if run.info.status == RUNNING and ADOPTED not in run.data.tags
            ),
        )

    return ask_store(uri, limit_s, look)


def close_ended_runs(
    uri: str,
    experiment: str,
    *,
    is_over: Callable[[str], bool | None],
    before: Callable[[str], object] = lambda run_key: None,
    except_key: str | None = None,
    limit_s: float = _LIMIT_S,
) -> tuple[EndedRun, ...]:
    """End the MLflow runs of earlier pipeline runs that have ended without doing so.

    Where Kubeflow cannot be asked, signs of life decide: a step that gave none for half an hour is
    over, and so is a pipeline without a running step that began none for a day. One that Kubeflow
    calls running is over after a week. A step that comes up after all opens its run again. Only
    runs with the tag `nas.kfp_run_id` are looked at.

    Args:
        is_over: whether a run of Kubeflow has ended, by its id; None where nothing is known.
        before: is called with the key of a pipeline run that is over before its runs are closed.
        except_key: key of the run that asks.

    Raises:
        ResourceUnavailable: the store does not answer, or refuses access.
    """

    def close(client: "MlflowClient") -> tuple[EndedRun, ...]:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return ()
        running = search(client, [found.experiment_id], f"attributes.status = '{RUNNING}'")
        keys = {key_of(run).partition(".")[0] for run in running} - {"", except_key}
        ended = (_close_ended(client, key, experiment, is_over, before) for key in sorted(keys))
        return tuple(one for one in ended if one is not None)

    return ask_store(uri, limit_s, close) or ()


def _close_ended(
    client: "MlflowClient",
    run_key: str,
    experiment: str,
    is_over: Callable[[str], bool | None],
    before: Callable[[str], object],
) -> EndedRun | None:
    """Close what is over of one pipeline run; None when nothing is."""
    runs = runs_of(client, run_key, experiment)
    ids = [run.data.tags[KFP_RUN_ID] for run in runs if KFP_RUN_ID in run.data.tags]
    if not ids:  # a run without Kubeflow, on one machine
        return None
    ended = what_is_over(runs, is_over(ids[-1]), now_s=time.time())
    if ended.is_pipeline:
        before(run_key)
        # What was sent late may have ended runs, in a better way than this.
        runs = runs_of(client, run_key, experiment)
    else:
        runs = list(ended.runs)
    closed = end_runs(client, runs, status="FAILED", reason=ended.reason, kind=LOST)
    if not closed.run_ids:
        return None
    return EndedRun(run_key, ids[-1], ended.reason, ended.is_pipeline, closed)


def _reason_of_steps(runs: Iterable[Any]) -> tuple[str | None, str | None]:
    for run in runs:
        reason = run.data.tags.get(TAG_REASON)
        if reason is not None:
            step = key_of(run).partition(".")[2]
            return f"{step}: {reason}" if step else reason, run.data.tags.get(TAG_KIND)
    return None, None
