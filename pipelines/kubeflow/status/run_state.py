"""State of a run: KFP's name, the true state, and the name that the commands print."""

from typing import Literal

from pipelines.kubeflow.client import ENDED, JsonObject

State = Literal["pending", "running", "succeeded", "failed", "skipped", "cancelled", "not-reached"]

_STATES: dict[str, State] = {
    "RUNNING": "running",
    "CANCELING": "running",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELED": "cancelled",
    "OMITTED": "not-reached",
}


def is_ended(run: JsonObject) -> bool:
    """Return whether a run has ended."""
    return run.get("state") in ENDED


def state_of(run: JsonObject) -> str:
    """Return KFP's state; `CANCELED` for a run that was cancelled, which KFP ends as FAILED."""
    state = str(run.get("state") or "PENDING")
    if state != "FAILED":
        return state
    states = [str(each.get("state")) for each in run.get("state_history") or []]
    before = next((each for each in reversed(states) if each not in ENDED), "")
    return "CANCELED" if before == "CANCELING" else state


def run_state(run: JsonObject) -> State:
    """Return the state of a run as a `State`."""
    return state_named(state_of(run))


def cancelled_at(run: JsonObject) -> str | None:
    """Return when the end of a run was requested."""
    history = run.get("state_history") or []
    times = [each.get("update_time") for each in history if each.get("state") == "CANCELING"]
    return str(times[0]) if times and times[0] else None


def state_named(state: str) -> State:
    """Return the `State` for KFP's name of a state, or for `OMITTED`."""
    return _STATES.get(state, "pending")
