"""Whether an earlier pipeline run is over, where it has not recorded its end itself.

The process that sends a step's events writes the time as tag `nas.alive` once a minute. A store
that was unreachable takes no signs: then a running run may be closed, and its next event opens it
again or ends it as it should.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from components.tracking.pipeline_runs import RUNNING, key_of
from components.tracking.tags import ALIVE

_MINUTE_S, _HOUR_S = 60.0, 3600.0
_SILENT_S = 30 * _MINUTE_S
_WAITING_S = 24 * _HOUR_S  # between two steps: the next may wait for a node
_STUCK_S = 7 * 24 * _HOUR_S  # Kubeflow may call a run RUNNING for ever whose workflow is gone


@dataclass(frozen=True, slots=True)
class Ended:
    """The MLflow runs of a pipeline run that are over.

    Attributes:
        runs: all of the pipeline, or some of its steps and their children.
        is_pipeline: whether the whole pipeline is over.
        reason: how that is known.
    """

    runs: tuple[Any, ...]
    is_pipeline: bool
    reason: str


def what_is_over(runs: Sequence[Any], over: bool | None, *, now_s: float) -> Ended:
    """Return the MLflow runs of a pipeline run that are over.

    Args:
        runs: MLflow runs of the pipeline, its steps and their children.
        over: whether the pipeline is over for Kubeflow; None where it could not be asked.
        now_s: seconds since the epoch.
    """
    if over:
        return Ended(tuple(runs), True, "the Kubeflow run has ended and left this open")
    said = "Kubeflow calls it running" if over is False else "Kubeflow could not be asked"
    silent_s, waiting_s = (_STUCK_S, _STUCK_S) if over is False else (_SILENT_S, _WAITING_S)
    steps: dict[str, list[Any]] = {}
    for run in runs:
        steps.setdefault(_step_of(run), []).append(run)
    open_steps = {
        step: found
        for step, found in steps.items()
        if step and any(run.info.status == RUNNING for run in found)
    }
    silent = [found for found in open_steps.values() if now_s - last_sign_s(found) > silent_s]
    ago_s = now_s - last_sign_s(runs)
    if len(silent) == len(open_steps) and ago_s > waiting_s:
        return Ended(tuple(runs), True, f"no sign of life for {_words(ago_s)}; {said}")
    over_runs = tuple(run for found in silent for run in found)
    ago_s = now_s - last_sign_s(over_runs) if over_runs else 0.0
    return Ended(over_runs, False, f"no sign of life for {_words(ago_s)}; {said}")


def last_sign_s(runs: Iterable[Any]) -> float:
    """Return when the last of several runs was last heard of, in seconds since the epoch."""
    return max((_sign_s(run) for run in runs), default=0.0)


def _sign_s(run: Any) -> float:
    started_s, ended_s = float(run.info.start_time) / 1000, float(run.info.end_time or 0) / 1000
    try:
        alive_s = datetime.fromisoformat(run.data.tags[ALIVE]).timestamp()
    except (KeyError, ValueError):  # an earlier version wrote none, or it was edited
        alive_s = 0.0
    return max(started_s, ended_s, alive_s)


def _step_of(run: Any) -> str:
    """Name of the step that a run belongs to; empty for the pipeline's run."""
    _, _, below = key_of(run).partition(".")
    return below.partition(".")[0]


def _words(seconds: float) -> str:
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.0f} h"
