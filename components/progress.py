"""Progress events of steps: lines of a file that `nas run` reads, or lines in the log of a pod.

An event is `{"time": s, "step": "search", "event": "child", ...}`; docs/architecture.md lists all.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nascore.redaction import redact
from nascore.steady_clock import since_epoch_s

FILE = "NAS_PROGRESS_FILE"
_EVERY_S = 10.0
_UNFINISHED = {
    "failed": "failed",
    "pruned": "ended early by the pruner",
    "rejected": "not trained, costs too much",
}
COMMAND = ("total", "overhead")
"""Times in `result.json` of the command `nas run`, and not of a step."""


def report(step: str, event: str, **fields: Any) -> None:
    """Append an event to `NAS_PROGRESS_FILE`, or print it where that is not set, as in a pod.

    It is one write, so that lines of several processes never mix. Texts are written without
    secrets: an error of a service may contain its address or a header.
    """
    shown = {
        name: redact(value) if isinstance(value, str) else value for name, value in fields.items()
    }
    made: dict[str, Any] = {"time": since_epoch_s(), "step": step, "event": event, **shown}
    path = os.environ.get(FILE)
    if path:
        with open(path, "a") as file:
            file.write(json.dumps(made) + "\n")
        return
    text = describe(made)
    if text is not None and _IN_LOG.is_worth_a_line(made):
        clock = datetime.fromtimestamp(made["time"], UTC).strftime("%H:%M:%S")
        print(f"{clock}  {text}", flush=True)


class Throttle:
    """Limits the lines for frequent events: a search can have thousands of children."""

    def __init__(self) -> None:
        self._printed_s = float("-inf")

    def is_worth_a_line(self, event: Mapping[str, Any]) -> bool:
        """Return whether to print an event: always if it is news, else once in ten seconds."""
        is_frequent = event["event"] in ("share", "child", "epoch")
        is_soon = event["time"] - self._printed_s < _EVERY_S
        if is_frequent and is_soon and not is_news(event):
            return False
        self._printed_s = event["time"]
        return True


_IN_LOG = Throttle()


def is_news(event: Mapping[str, Any]) -> bool:
    """Return whether a child is the best so far, failed, or is the last child or epoch."""
    if event["event"] == "epoch":
        return bool(event["epoch"] + 1 == event["of"])
    if event["event"] == "share":
        return False
    score = event.get("score", event["valid_accuracy"])
    last = event["of"] is not None and event["number"] + 1 == event["of"]
    has_failed = score is None and event.get("status", "failed") == "failed"
    return bool(has_failed or (score is not None and score == event["best"]) or last)


def describe(event: Mapping[str, Any], *, label: str | None = None) -> str | None:
    """Return one event as a line; None for events that have no text.

    Args:
        event: the event, as `report` writes it.
        label: name of the step in the line; the one of the event by default.
    """
    kind, label = event["event"], label or event["step"]
    if kind == "started":
        return f"{label} ..."
    if kind == "finished":
        return f"{label} was done before" if event.get("restored") else _finished(event, label)
    if kind == "child":
        return f"{label}  {_child(event)}"
    if kind == "epoch":
        score = event.get("score", event.get("valid_accuracy"))
        shown = "" if score is None else f", valid {event.get('figure', 'accuracy')} {score:.3f}"
        of = "" if event["of"] is None else f" of {event['of']}"  # trained for a time
        return f"{label}  epoch {event['epoch'] + 1}{of}{shown}"
    if kind == "share" and "network" in event:
        return f"{label}  {event['network']}: {event['share']:.0%} trained"
    if kind == "share":
        arm = "" if event["arm"] == "method" else " of the random control"
        return f"{label}  shared weights{arm}: {event['share']:.0%} trained"
    if kind == "note":
        return str(event["text"])
    return None


def _finished(event: Mapping[str, Any], label: str) -> str:
    found = event.get("metrics") or {}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    return f"{label} done in {duration(event['seconds'])}" + (f": {shown}" if shown else "")


def _child(event: Mapping[str, Any]) -> str:
    of = "" if event["of"] is None else f" of {event['of']}"
    name = "child" if event["arm"] == "method" else "random control"
    score = event.get("score", event["valid_accuracy"])
    if score is None:
        shown = _UNFINISHED[event.get("status", "failed")]
    else:
        shown = f"valid {event.get('figure', 'accuracy')} {score:.3f}"
    best = "" if event["best"] is None else f", best {event['best']:.3f}"
    left = event.get("seconds_left")
    remaining = "" if left is None else f", about {duration(left)} left"
    return f"{name} {event['number'] + 1}{of}: {shown}{best}{remaining}"


def steps_s(seconds: Mapping[str, float]) -> float:
    """Return the time of a run that card, report, MLflow and `nas run` show: that of its steps.

    The promotion counts until it writes the result. The start of steps, the upload of files and the
    rest of the command do not count.

    Args:
        seconds: `seconds` of `result.json`, to which `nas run` adds those of the whole command.
    """
    return sum(spent for name, spent in seconds.items() if name not in COMMAND)


def duration(seconds: float) -> str:
    """Return seconds as text, such as `2 min 05 s`."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
