"""The spool as the follower reads it: lines that are not sent yet, and the runs it knows.

`state.json` is written by the follower alone: how far each writer's file is sent, and the MLflow
ids of the runs.
"""

import heapq
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.tracking.spool import EVENTS
from nascore.errors import ResourceUnavailable
from nascore.files import replacing

STATE = "state.json"
_REFUSAL = "refusal.txt"  # what is wrong with the set-up of the store, and what to do
_POLL_S = 0.1


class UndeclaredRun(LookupError):
    """No event has declared the run yet."""


class Refused(Exception):
    """The event can never be sent."""


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line of a writer's file.

    Attributes:
        end: the byte after it.
        event: None when the line is not an event.
    """

    file: str
    end: int
    text: str
    event: dict[str, Any] | None
    time_ms: int


@dataclass(slots=True)
class RunInfo:
    """A run that the follower knows; an adopted one is ended by the system that made it."""

    id: str
    experiment_id: str
    adopted: bool = False


@dataclass(slots=True)
class State:
    """How far a spool is sent."""

    sent: dict[str, int] = field(default_factory=dict)
    runs: dict[str, RunInfo] = field(default_factory=dict)

    @classmethod
    def load(cls, spool: Path) -> "State":
        path = spool / STATE
        if not path.exists():
            return cls()
        data = json.loads(path.read_text())
        return cls(data["sent"], {key: RunInfo(**run) for key, run in data["runs"].items()})

    def save(self, spool: Path) -> None:
        with replacing(spool / STATE) as temporary:
            temporary.write_text(json.dumps(asdict(self)))


def unsent_lines(spool: Path, state: State) -> Iterator[Line]:
    """Yield lines of all writers by the time of their events; each writer's own order is kept.

    A line without its end is left out: its writer still writes it, or was killed.
    """
    with ExitStack() as files:
        yield from heapq.merge(
            *(
                _lines(files.enter_context(open(path, "rb")), path.name, state.sent)
                for path in sorted((spool / EVENTS).glob("*.jsonl"))
                if path.stat().st_size > state.sent.get(path.name, 0)
            ),
            key=lambda line: line.time_ms,
        )


def num_unsent(spool: Path) -> int:
    """Return the number of events that wait in a spool."""
    return sum(1 for _ in unsent_lines(spool, State.load(spool)))


def wait_for_run(spool: Path, key: str, *, timeout_s: float) -> str:
    """Return the MLflow id of a run that was declared in a spool, once the follower knows it.

    Raises:
        TimeoutError: the store did not answer in time, or no follower sends the spool.
        ResourceUnavailable: the store refuses access, as far as the follower has found out.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        run = State.load(spool).runs.get(key)
        if run is not None:
            return run.id
        refusal = _refusal(spool)
        if refusal is not None:
            raise ResourceUnavailable.of("tracking.uri", None, refusal)
        if time.monotonic() > deadline:
            raise TimeoutError(f"the tracking store has not received run {key} in {timeout_s:g} s")
        time.sleep(_POLL_S)


def experiment_of(spool: Path, key: str) -> str | None:
    """Return the MLflow experiment of a run that the follower knows; None of another."""
    run = State.load(spool).runs.get(key)
    return None if run is None else run.experiment_id


def note_refusal(spool: Path, reason: str) -> None:
    """Keep what is wrong with the set-up of the store, for `wait_for_run`."""
    (spool / _REFUSAL).write_text(reason)


def forget_refusal(spool: Path) -> None:
    """Drop what was noted: the store takes events again, or a new follower finds out."""
    (spool / _REFUSAL).unlink(missing_ok=True)


def _refusal(spool: Path) -> str | None:
    try:
        return (spool / _REFUSAL).read_text()
    except FileNotFoundError:
        return None


def _lines(file: Any, name: str, sent: dict[str, int]) -> Iterator[Line]:
    end = sent.get(name, 0)
    file.seek(end)
    time_ms = 0
    for line in file:
        if not line.endswith(b"\n"):
            return
        end += len(line)
        event = parsed(line)
        time_ms = time_ms if event is None else event["time_ms"]
        yield Line(name, end, line.decode(errors="replace").rstrip(), event, time_ms)


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return an event; None for a line that a full disk has cut in the middle of a file."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"run", "op", "time_ms"} <= event.keys() else None
