"""The unsent lines of one spool, sent in order and exactly once.

A follower may be killed anywhere. It notes its position in the spool after the events were sent, so
an event may be sent twice; `mlflow_writer` makes that harmless. Events of several writers are
merged by their time; an event whose run is not declared yet holds back its own writer only. What
the store will never take is put aside in `rejected.jsonl`, with a warning, and the rest is sent.
What it refuses for the account or the address stays in the spool: the set-up may be corrected.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from components.tracking.mlflow_errors import explained, is_inactive, kind_of
from components.tracking.notes import warn
from components.tracking.reading import (
    Line,
    Refused,
    State,
    UndeclaredRun,
    parsed,
    unsent_lines,
)
from components.tracking.spool import TARGET, Tracker
from nascore.files import replacing
from nascore.redaction import redact
from nascore.service_errors import ErrorKind

if TYPE_CHECKING:  # mlflow takes two seconds to import; an empty spool needs none
    from components.tracking.mlflow_writer import Sender

_REJECTED = "rejected.jsonl"
_LOCK = "lock"
_SHOWN = 400
_ADDRESS = re.compile(r" for url: \S+")  # of artifacts: each of them has another
_METRICS_PER_CALL = 1000  # MLflow's limit


def lock_of(spool: Path, *, wait: bool) -> FileLock:
    """Return the lock of a spool: two followers would send everything twice.

    Args:
        wait: for another process that holds it; otherwise filelock.Timeout is raised.
    """
    return FileLock(spool / _LOCK, timeout=-1 if wait else 0)


def restore_rejected(spool: Path) -> int:
    """Move rejected events back into a spool, to be sent again; return their number.

    Lines that are no events stay rejected. A process that is killed in between leaves events in
    both places: sending one twice does no harm.
    """
    path = spool / _REJECTED
    if not path.exists():
        return 0
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    events = [entry["event"] for entry in entries if _is_event(entry["event"])]
    tracker = Tracker(spool, "rejected")
    for event in events:
        fields = {name: value for name, value in event.items() if name not in ("run", "op")}
        tracker.append(event["run"], event["op"], **fields)
    tracker.close()
    rest = [json.dumps(entry) + "\n" for entry in entries if not _is_event(entry["event"])]
    if rest:
        with replacing(path) as temporary:
            temporary.write_text("".join(rest), encoding="utf-8")
    else:
        path.unlink()
    return len(events)


def _is_event(value: dict[str, Any]) -> bool:
    return parsed(json.dumps(value).encode()) is not None


class Follower:
    """Sends the lines of a spool from where the last follower stopped."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._state = State.load(spool)
        self._sender: Sender | None = None
        self._reported: set[str] = set()  # reasons of events that were put aside
        self._points: dict[str, list[dict[str, Any]]] = {}  # metrics on their way, by run
        self._covered: dict[str, int] = {}  # how far each file is sent once they are

    def drain(self, *, last: bool) -> bool:
        """Send all that can be sent; return whether that was anything.

        Args:
            last: no process writes any more, so that a run which is not declared never will be.

        Raises:
            Exception: whatever an unreachable store raises; nothing is lost.
        """
        moved, stalled = self._pass()
        some = moved
        while stalled and (moved or last):
            if not moved:
                for line in stalled:
                    self._put_aside(line.event, "its run was never declared")
                    self._sent(line)
            moved, stalled = self._pass()
            some |= moved
        return some

    def give_sign(self) -> None:
        """Write a sign of life on the runs that are open, where there are any."""
        if self._sender is not None:
            self._sender.runs.give_sign()

    def _pass(self) -> tuple[bool, list[Line]]:
        """Read the files once; return whether anything was sent, and the lines that wait."""
        stalled: dict[str, Line] = {}
        moved = False
        self._points, self._covered = {}, {}
        for line in unsent_lines(self._spool, self._state):
            if line.file in stalled:
                continue
            try:
                self._take(line)
                moved = True
            except UndeclaredRun:
                stalled[line.file] = line
        self._flush()
        return moved, list(stalled.values())

    def _take(self, line: Line) -> None:
        event = line.event
        if event is None:
            self._flush()
            self._put_aside({"line": line.text}, "not an event")
            self._sent(line)
        elif event["op"] == "metrics":
            self._add_points(event)
            self._covered[line.file] = line.end
        else:
            self._flush()
            is_taken = self._attempt(event, lambda: self._store().send(event))
            self._sent(line)
            if is_taken:  # a rejected artifact may be sent later (`restore_rejected`)
                self._remove_kept(event)

    def _add_points(self, event: dict[str, Any]) -> None:
        self._store().runs.require(event["run"])
        values = event["values"].items()
        if sum(map(len, self._points.values())) + len(values) > _METRICS_PER_CALL:
            self._flush()
        self._points.setdefault(event["run"], []).extend(
            {"key": k, "value": v, "time_ms": event["time_ms"], "step": event["step"]}
            for k, v in values
        )

    def _flush(self) -> None:
        """Send the collected metrics; only then the state covers them."""
        for run, points in self._points.items():
            for start in range(0, len(points), _METRICS_PER_CALL):
                self._send_points(run, points[start : start + _METRICS_PER_CALL])
        if self._covered:
            self._state.sent.update(self._covered)
            self._state.save(self._spool)
        self._points, self._covered = {}, {}

    def _send_points(self, run: str, points: list[dict[str, Any]]) -> None:
        """Send metrics; a call that is refused is halved until the wrong points are alone."""
        try:
            self._store().metrics(run, points)
        except Exception as error:  # MLflow's classes are not imported here
            if not self._is_of_event(error):
                raise
            if len(points) == 1:
                (point,) = points
                values = {point["key"]: point["value"]}
                event = {"run": run, "op": "metrics", "values": values}
                event |= {"time_ms": point["time_ms"], "step": point["step"]}
                self._put_aside(event, explained(error))
                return
            middle = len(points) // 2
            self._send_points(run, points[:middle])
            self._send_points(run, points[middle:])

    def _attempt(self, event: dict[str, Any], send: Callable[[], None]) -> bool:
        """Send an event, or put it aside; return whether it was sent."""
        try:
            send()
        except Refused as error:
            self._put_aside(event, str(error))
            return False
        except Exception as error:  # MLflow's classes are not imported here
            if not self._is_of_event(error):
                raise
            self._put_aside(event, explained(error))
            return False
        return True

    def _is_of_event(self, error: Exception) -> bool:
        """Return whether an error concerns one event, so that others can be sent.

        Raises:
            InputError: the experiment is deleted; all can be sent when it is restored.
        """
        if kind_of(error) is not ErrorKind.REQUEST:
            return False
        if is_inactive(error) and self._sender is not None:
            self._sender.check_experiment()
        return True

    def _put_aside(self, event: dict[str, Any] | None, reason: str) -> None:
        path = self._spool / _REJECTED
        reason = redact(reason)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "reason": reason}) + "\n")
        line = _ADDRESS.sub("", reason.splitlines()[0])[:_SHOWN]
        if line not in self._reported:  # a deleted run refuses all that follows in the same words
            warn(f"an event cannot be sent and is kept in {path}: {line}{self._how_to_send()}")
        self._reported.add(line)

    def _how_to_send(self) -> str:
        """Return the command that sends rejected events, for the first warning."""
        if self._reported:
            return ""
        command = f"python -m components.tracking.replayer --spool {self._spool} --rejected"
        return f". Try again once the cause is removed:\n  {command}"

    def _sent(self, line: Line) -> None:
        self._state.sent[line.file] = line.end
        self._state.save(self._spool)

    def _remove_kept(self, event: dict[str, Any]) -> None:
        if "path" in event:
            shutil.rmtree((self._spool / event["path"]).parent, ignore_errors=True)

    def _store(self) -> "Sender":
        from components.tracking.mlflow_writer import Sender

        if self._sender is None:
            target = json.loads((self._spool / TARGET).read_text())
            self._sender = Sender(self._spool, target, self._state.runs)
        return self._sender
