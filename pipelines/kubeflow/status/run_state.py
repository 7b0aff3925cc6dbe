"""The state of a run: as KFP calls it, as it is, and in the words of our commands."""

from typing import Literal

from pipelines.kubeflow.client import ENDED, Thing

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


def is_ended(run: Thing) -> bool:
    """Whether a run stays in its state."""
    return run.get("state") in ENDED


def state_of(run: Thing) -> str:
    """Return KFP's state; `CANCELED` for a run that was cancelled, which KFP ends as FAILED."""
    state = str(run.get("state") or "PENDING")
    if state != "FAILED":
        return state
    states = [str(each.get("state")) for each in run.get("state_history") or []]
    before = next((each for each in reversed(states) if each not in ENDED), "")
    return "CANCELED" if before == "CANCELING" else state


def run_state(run: Thing) -> State:
    """Return the state of a run in the words of `State`."""
    return state_in_words(state_of(run))


def cancelled_at(run: Thing) -> str | None:
    """Return when somebody asked for the end of a run."""
    history = run.get("state_history") or []
    times = [each.get("update_time") for each in history if each.get("state") == "CANCELING"]
    return str(times[0]) if times and times[0] else None


def state_in_words(state: str) -> State:
    """Return a state of KFP, or `OMITTED`, in the words of `State`."""
    return _STATES.get(state, "pending")
