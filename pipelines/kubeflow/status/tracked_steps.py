"""Steps of a run on Kubeflow as recorded in MLflow, if it can be reached from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.config.settings import TrackingConfig
from nascore.errors import ResourceUnavailable
from pipelines.kubeflow.run_origin import Origin
from pipelines.kubeflow.status.run_state import State
from pipelines.kubeflow.status.tracked_runs import unreachable, uri_of

_LIMIT_S = 30.0
_STATES: dict[str, State] = {
    "RUNNING": "running",
    "FINISHED": "succeeded",
    "FAILED": "failed",
    "KILLED": "cancelled",
}


@dataclass(frozen=True, slots=True)
class TrackedStep:
    """A step in MLflow.

    Attributes:
        started_s: start in seconds since the epoch.
        ended_s: end in seconds since the epoch; None while it runs.
    """

    state: State
    started_s: float
    ended_s: float | None


@dataclass(frozen=True, slots=True)
class MlflowSteps:
    """A run in MLflow.

    Attributes:
        steps: steps by name, such as `train_final`.
        last_sign_s: last entry of the run, in seconds since the epoch; None without one.
        note: why MLflow could not be asked; empty if it was.
    """

    steps: Mapping[str, TrackedStep] = field(default_factory=dict)
    last_sign_s: float | None = None
    note: str = ""


def tracked(origin: Origin) -> MlflowSteps:
    """Return what MLflow has recorded of a run; asked with the account of the user."""
    if not origin.is_ours:
        return MlflowSteps(note="its pipeline was not compiled by this project")
    uri = uri_of(origin)
    obstacle = unreachable(uri)
    if obstacle:
        return MlflowSteps(note=obstacle)
    from components.tracking.pipeline_runs import ask_store, key_of, runs_of
    from components.tracking.signs_of_life import last_sign_s

    experiment = str(origin.setting("tracking", "experiment") or TrackingConfig().experiment)

    def look(client: Any) -> MlflowSteps:
        runs = runs_of(client, origin.run_key, experiment)
        of_steps = {
            key_of(run).partition(".")[2]: run for run in runs if key_of(run).count(".") == 1
        }
        return MlflowSteps(
            steps={name: _step(run) for name, run in of_steps.items()},
            last_sign_s=last_sign_s(runs) if runs else None,
        )

    try:
        return ask_store(uri, _LIMIT_S, look) or MlflowSteps()
    except ResourceUnavailable as error:
        return MlflowSteps(note=str(error))


def _step(run: Any) -> TrackedStep:
    ended_ms = run.info.end_time
    return TrackedStep(
        state=_STATES.get(run.info.status, "pending"),
        started_s=float(run.info.start_time) / 1000,
        ended_s=None if ended_ms is None else float(ended_ms) / 1000,
    )
