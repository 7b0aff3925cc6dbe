"""Sends what ended steps have left in their spools, within a limited time.

    python -m components.tracking.flush --limit-s 60 SPOOL ...

does so while a run is at work, and says what it has sent and what not.
"""

import argparse
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import filelock

from components.tracking.client import SETTINGS, quick_settings, within
from components.tracking.lost_runs import end_lost_runs, is_left
from components.tracking.mlflow_errors import brief, is_transient, report
from components.tracking.notes import say, warn
from components.tracking.reading import num_unsent
from components.tracking.replay import Follower, lock_of
from components.tracking.spool import EVENTS, TARGET
from nascore.retries import Backoff, call_with_retries

_BACKOFF = Backoff(first_pause_s=0.5, longest_pause_s=5.0)
_LAST_TRY_S = 1.0
SENT_BY_ANOTHER = "another process is sending them"


@dataclass(frozen=True, slots=True)
class Unsent:
    """A spool that still holds events.

    Attributes:
        count: of the events.
        reason: why they could not be sent.
    """

    spool: Path
    count: int
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.count} events in {self.spool} are not sent ({self.reason}); they are kept: "
            f"python -m components.tracking.replayer --spool {self.spool}"
        )


def spools_of(state: Path) -> list[Path]:
    """Return the spools of a run, below its state folder, in the order in which they were begun."""
    found = [spool for spool in (state / "spool", *state.glob("*/spool")) if _is_spool(spool)]
    return sorted(found, key=_begun)


def store_of(spool: Path) -> str | None:
    """Return the address of the store that a spool is for; None if it is gone or damaged.

    The environment has the account of one store; no other may get it.
    """
    try:
        uri = json.loads((spool / TARGET).read_text())["uri"]
    except (OSError, ValueError, LookupError):
        return None
    return str(uri)


def send_left(spools: Iterable[Path], *, limit_s: float) -> tuple[Unsent, ...]:
    """Send all events that wait in spools that no process writes to any more.

    Args:
        limit_s: seconds for all of them together; what is not sent by then stays where it is.

    Returns:
        The spools that could not be sent.
    """
    end_s = time.monotonic() + limit_s
    left = []
    for spool in spools:
        if is_left(spool):
            reason = _send(spool, end_s)
            if reason is not None:
                left.append(Unsent(spool, num_unsent(spool), reason))
    return tuple(left)


def main() -> None:
    """Send the spools of earlier runs while another run is at work, which goes first."""
    parser = argparse.ArgumentParser(prog="python -m components.tracking.flush")
    parser.add_argument("--limit-s", type=float, required=True, help="seconds for all spools")
    parser.add_argument("spools", nargs="+", type=Path)
    arguments = parser.parse_args()
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    os.nice(5)
    counts = {spool: num_unsent(spool) for spool in arguments.spools}
    left = {one.spool: one for one in send_left(arguments.spools, limit_s=arguments.limit_s)}
    for spool, count in counts.items():
        if spool not in left:
            say(f"{count} events that an earlier run has kept in {spool} are sent")
        elif left[spool].reason != SENT_BY_ANOTHER:
            warn(str(left[spool]))


def _send(spool: Path, end_s: float) -> str | None:
    """Return why the spool could not be sent; None when it was."""
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        return "there was no time left"
    try:
        with quick_settings(), lock_of(spool, wait=False):
            return within(left_s, lambda: _drain(spool, left_s - _LAST_TRY_S))
    except filelock.Timeout:
        return SENT_BY_ANOTHER
    except TimeoutError as error:
        return f"the store: {error}"
    except OSError as error:  # a volume that may be read only
        return brief(error)


def _drain(spool: Path, timeout_s: float) -> str | None:
    end_lost_runs(spool)
    follower = Follower(spool)

    def send_all() -> None:
        while follower.drain(last=True):
            pass

    try:
        call_with_retries(
            send_all,
            is_transient=is_transient,
            timeout_s=timeout_s,
            backoff=_BACKOFF,
        )
    except Exception as error:  # whatever a store can raise: the events are kept
        if is_transient(error):
            return f"the tracking store is unreachable: {brief(error)}"
        return report(error)
    return None


def _is_spool(folder: Path) -> bool:
    return (folder / TARGET).is_file()


def _begun(spool: Path) -> str:
    """Files of events are named by the time at which they were begun."""
    return min((path.name for path in (spool / EVENTS).glob("*.jsonl")), default="")


if __name__ == "__main__":
    main()
