"""The sending side: replays a spool to MLflow, in order and exactly once, as long as it takes.

    python -m components.tracking.follow --spool FOLDER

sends what is there and ends. With `--until-closed` it goes on until the spool is closed and empty.

It may be killed anywhere. How far it is stands in the spool after what it covers was sent, so an
event may be sent twice; `sender` makes that harmless. Events of several writers are merged by their
time; an event whose run is not declared yet holds back its own writer only. What the store will
never take is put aside in `rejected.jsonl`, with a warning, and the rest goes on.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.tracking.reading import Line, State, num_unsent, unsent_lines
from components.tracking.sender import Refused, Sender, UndeclaredRun
from components.tracking.spool import CLOSED, TARGET
from components.tracking.stores import brief
from nascore.redaction import redact

SENT, UNSENT = 0, 3  # exit statuses

_REJECTED = "rejected.jsonl"
_LOCK = "lock"
_POLL_S = 0.2
_MAX_WAIT_S = 15.0
_WARN_EVERY_S = 600.0
_METRICS_PER_CALL = 1000  # MLflow's limit
_SETTINGS = {
    # The defaults wait for minutes in one call; here the loop below does the waiting.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


class Follower:
    """Sends the lines of a spool from where the last follower stopped."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._state = State.load(spool)
        self._sender: Sender | None = None
        self._points: dict[str, list[dict[str, Any]]] = {}  # metrics on their way, by run
        self._covered: dict[str, int] = {}  # how far each file is sent once they are

    def drain(self, *, last: bool) -> bool:
        """Sends all that can be sent; whether that was anything.

        Args:
            last: nobody writes any more, so that a run which is not declared never will be.

        Raises:
            Exception: whatever the store raises when it is away; nothing is lost.
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

    def _pass(self) -> tuple[bool, list[Line]]:
        """One reading of the files: whether anything was sent, and the lines that wait."""
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
            self._attempt(event, lambda: self._store().send(event))
            self._sent(line)
            self._remove_kept(event)

    def _add_points(self, event: dict[str, Any]) -> None:
        self._store().require(event["run"])
        values = event["values"].items()
        if sum(map(len, self._points.values())) + len(values) > _METRICS_PER_CALL:
            self._flush()
        self._points.setdefault(event["run"], []).extend(
            {"key": k, "value": v, "time_ms": event["time_ms"], "step": event["step"]}
            for k, v in values
        )

    def _flush(self) -> None:
        """Sends the metrics on their way; they are covered by the state only then."""
        for run, points in self._points.items():
            for start in range(0, len(points), _METRICS_PER_CALL):
                self._send_points(run, points[start : start + _METRICS_PER_CALL])
        if self._covered:
            self._state.sent.update(self._covered)
            self._state.save(self._spool)
        self._points, self._covered = {}, {}

    def _send_points(self, run: str, points: list[dict[str, Any]]) -> None:
        """A call that is refused is halved until the points that are at fault are alone."""
        from mlflow.exceptions import MlflowException

        from components.tracking.patience import is_final

        try:
            self._store().metrics(run, points)
        except MlflowException as error:
            if not is_final(error):
                raise
            if len(points) == 1:
                self._put_aside({"op": "metrics", "run": run, "values": points}, str(error))
                return
            middle = len(points) // 2
            self._send_points(run, points[:middle])
            self._send_points(run, points[middle:])

    def _attempt(self, event: dict[str, Any], send: Callable[[], None]) -> None:
        from mlflow.exceptions import MlflowException

        from components.tracking.patience import is_final

        try:
            send()
        except Refused as error:
            self._put_aside(event, str(error))
        except MlflowException as error:
            if not is_final(error):
                raise
            self._put_aside(event, str(error))

    def _put_aside(self, event: dict[str, Any] | None, reason: str) -> None:
        path = self._spool / _REJECTED
        reason = redact(reason)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "reason": reason}) + "\n")
        warn(f"an event cannot be sent and is kept in {path}: {reason.splitlines()[0][:200]}")

    def _sent(self, line: Line) -> None:
        self._state.sent[line.file] = line.end
        self._state.save(self._spool)

    def _remove_kept(self, event: dict[str, Any]) -> None:
        if "path" in event:
            shutil.rmtree((self._spool / event["path"]).parent, ignore_errors=True)

    def _store(self) -> Sender:
        if self._sender is None:
            target = json.loads((self._spool / TARGET).read_text())
            self._sender = Sender(self._spool, target, self._state.runs)
        return self._sender


def follow(
    spool: Path, *, until_closed: bool = False, parent: int | None = None, grace_s: float = 60.0
) -> int:
    """Sends until nothing is left, and with `until_closed` until nobody writes any more.

    Args:
        parent: process that started this one; when it is gone nobody closes the spool, so what is
            there is sent, and given up after `grace_s` seconds when the store is away.
    """
    follower, outage, wait = Follower(spool), _Outage(spool), _POLL_S
    while True:
        orphan = parent is not None and os.getppid() != parent
        last = not until_closed or orphan or (spool / CLOSED).exists()
        try:
            moved = follower.drain(last=last)
            outage.over()
            wait = _POLL_S
            if last and not moved:
                return SENT
        except Exception as error:  # whatever a store can raise: it is told, and tried again
            outage.told(error)
            if orphan and outage.seconds > grace_s:
                return UNSENT
            wait = min(2 * wait, _MAX_WAIT_S)
        _pause(wait, None if last else spool / CLOSED)


def warn(text: str) -> None:
    """To whoever reads the log, and to whoever watches the progress."""
    print(f"warning: tracking: {text}", file=sys.stderr, flush=True)
    path = os.environ.get("NAS_PROGRESS_FILE")
    if path:
        line = {"time": time.time(), "step": "tracking", "event": "note", "text": text}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _Outage:
    """Warns when the store goes away, again while it is, and when it is back."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._since_s: float | None = None
        self._warned_s = 0.0

    @property
    def seconds(self) -> float:
        return 0.0 if self._since_s is None else time.monotonic() - self._since_s

    def told(self, error: Exception) -> None:
        now = time.monotonic()
        if self._since_s is None or now - self._warned_s > _WARN_EVERY_S:
            warn(
                f"the store is away ({brief(error)}); the run goes on, what it logs is kept in "
                f"{self._spool} and sent when the store is back"
            )
            self._warned_s = now
        self._since_s = self._since_s or now

    def over(self) -> None:
        if self._since_s is not None:
            warn("the store is back; all that was kept is sent")
        self._since_s = None


def _pause(seconds: float, closed: Path | None) -> None:
    """Waits, but not longer than until the spool is closed."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (closed is not None and closed.exists()):
        time.sleep(min(left, _POLL_S))


@contextlib.contextmanager
def _lock(spool: Path, *, wait: bool) -> Iterator[None]:
    """Two followers of one spool would send everything twice; raises BlockingIOError."""
    with open(spool / _LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _end(signum: int, frame: object) -> None:
    sys.exit(UNSENT)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m components.tracking.follow", description="Sends a tracking spool to MLflow."
    )
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--until-closed", action="store_true", help="wait for further events")
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    spool = arguments.spool
    if not spool.is_dir():
        parser.error(f"{spool} is not a folder")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    os.nice(5)  # training goes first
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN if arguments.parent else _end)
    try:
        with _lock(spool, wait=arguments.until_closed):
            return _follow_and_tell(spool, arguments.until_closed, arguments.parent)
    except BlockingIOError:
        parser.error(f"{spool} is being sent by another process already")


def _follow_and_tell(spool: Path, until_closed: bool, parent: int | None) -> int:
    try:
        return follow(spool, until_closed=until_closed, parent=parent)
    finally:
        left = num_unsent(spool)
        if left:
            warn(
                f"{left} events are not sent yet; they are kept. Send them when the store is back "
                f"with\n  python -m components.tracking.follow --spool {spool}"
            )


if __name__ == "__main__":
    sys.exit(main())
