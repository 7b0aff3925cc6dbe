"""Replay a spool to MLflow, in order and exactly once, as long as it takes.

    python -m components.tracking.replayer --spool FOLDER

sends what is there and ends. With `--until-closed` it goes on until the spool is closed and empty,
and gives a sign of life once a minute on the runs that are open (tag `nas.alive`). `--rejected`
first moves back the events that the store has rejected, such as an artifact above the size limit of
a proxy.

Of a spool that holds all of a pipeline run, the runs without an end are ended as lost.

While the store is unreachable, or refuses access, all stays in the spool and is tried again; only
the warning differs. A refusal that lasts when no process writes any more ends the follower at once,
and `wait_for_run` raises it in the process that waits. Other than a retried call, this loop also
waits for new events, so that it has its own pauses.
"""

import argparse
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import filelock

from components.tracking.client import SETTINGS
from components.tracking.lost_runs import end_lost_runs
from components.tracking.mlflow_errors import brief, kind_of, report
from components.tracking.notes import warn
from components.tracking.reading import forget_refusal, note_refusal, num_unsent
from components.tracking.replay import Follower, lock_of, restore_rejected
from components.tracking.spool import CLOSED
from components.tracking.system_metrics import sampling
from nascore.service_errors import ErrorKind

SENT, UNSENT = 0, 3  # exit statuses

_POLL_S = 0.2
_MAX_WAIT_S = 15.0
_WARN_EVERY_S = 600.0
_SIGN_EVERY_S = 60.0


def follow(
    spool: Path, *, until_closed: bool = False, parent: int | None = None, grace_s: float = 60.0
) -> int:
    """Send until nothing is left, and with `until_closed` until no process writes any more.

    Args:
        spool: its folder.
        until_closed: wait for further events until the spool is closed.
        parent: process that started this one; once it has ended no process closes the spool, so
            what is there is sent.
        grace_s: after the end of the parent, an unreachable store is given up after this time.

    Returns:
        SENT or UNSENT, the exit status.
    """
    with sampling(spool) if until_closed else nullcontext(_nothing) as end_sampling:
        return _follow(spool, until_closed, parent, grace_s, end_sampling)


def _follow(
    spool: Path,
    until_closed: bool,
    parent: int | None,
    grace_s: float,
    end_sampling: Callable[[], None],
) -> int:
    follower, outage, wait = Follower(spool), _Outage(spool), _POLL_S
    next_sign_s = 0.0
    while True:
        orphan = parent is not None and os.getppid() != parent
        last = not until_closed or orphan or (spool / CLOSED).exists()
        if last:
            end_sampling()
        try:
            if last:
                end_lost_runs(spool)
            moved = follower.drain(last=last)
            if not last and time.monotonic() >= next_sign_s:
                next_sign_s = time.monotonic() + _SIGN_EVERY_S
                follower.give_sign()
            outage.over()
            wait = _POLL_S
            if last and not moved:
                return SENT
        except Exception as error:  # whatever a store can raise: reported, and tried again
            is_refused = kind_of(error) is ErrorKind.SETUP
            outage.note(error, is_refused=is_refused)
            is_final = is_refused or _is_full(error)  # no process makes room while it waits here
            if (last and is_final) or (orphan and outage.seconds > grace_s):
                return UNSENT
            wait = min(2 * wait, _MAX_WAIT_S)
        _pause(wait, None if last else spool / CLOSED)


def _is_full(error: Exception) -> bool:
    """Return whether the disk of the spool is full, so that the position cannot be noted."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _nothing() -> None:
    """Do nothing: a spool that no process writes to is not sampled."""


class _Outage:
    """Warns when the store cannot be used, again while it cannot, and when it is back."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._since_s: float | None = None
        self._warned_s = 0.0
        self._is_refusal = False

    @property
    def seconds(self) -> float:
        return 0.0 if self._since_s is None else time.monotonic() - self._since_s

    def note(self, error: Exception, *, is_refused: bool) -> None:
        now = time.monotonic()
        is_new = self._since_s is None or is_refused != self._is_refusal
        if is_refused:
            note_refusal(self._spool, report(error))
        if is_new or now - self._warned_s > _WARN_EVERY_S:
            kept = f"the run goes on, what it logs is kept in {self._spool} and sent when"
            if is_refused:
                warn(f"{report(error)}; {kept} it has been corrected")
            elif _is_full(error):
                warn(f"the disk is full; {kept} there is room")
            else:
                warn(
                    f"the tracking store is unreachable ({brief(error)}); {kept} the store is back"
                )
            self._warned_s = now
        self._since_s, self._is_refusal = self._since_s or now, is_refused

    def over(self) -> None:
        if self._since_s is not None:
            forget_refusal(self._spool)
            warn("the tracking store is back; all that was kept is sent")
        self._since_s = None


def _pause(seconds: float, closed: Path | None) -> None:
    """Wait, but not longer than until the spool is closed."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (closed is not None and closed.exists()):
        time.sleep(min(left, _POLL_S))


def _end(signum: int, frame: object) -> None:
    sys.exit(UNSENT)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m components.tracking.replayer",
        description="Sends a tracking spool to MLflow.",
    )
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--until-closed", action="store_true", help="wait for further events")
    parser.add_argument(
        "--rejected", action="store_true", help="send rejected events again (rejected.jsonl)"
    )
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--later", default="", help=argparse.SUPPRESS)  # who sends what is left
    arguments = parser.parse_args()
    spool = arguments.spool
    if not spool.is_dir():
        parser.error(f"{spool} is not a folder")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    os.nice(5)  # training goes first
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN if arguments.parent else _end)
    try:
        with lock_of(spool, wait=arguments.until_closed):
            if arguments.rejected:
                restore_rejected(spool)
            return _follow_and_tell(
                spool, arguments.until_closed, arguments.parent, arguments.later
            )
    except filelock.Timeout:
        parser.error(f"{spool} is being sent by another process already")


def _follow_and_tell(spool: Path, until_closed: bool, parent: int | None, later: str) -> int:
    try:
        return follow(spool, until_closed=until_closed, parent=parent)
    finally:
        left = num_unsent(spool)
        if left:
            kept = f"they are kept{later and ', and '}{later}"
            command = f"python -m components.tracking.replayer --spool {spool}"
            warn(
                f"{left} events are not sent yet; {kept}. "
                f"{'Or send' if later else 'Send'} them when the store is back with\n  {command}"
            )


if __name__ == "__main__":
    sys.exit(main())
