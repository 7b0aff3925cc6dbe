"""Sends what ended steps have left in their spools, within a limited time."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from components.tracking.client import quick_settings, within
from components.tracking.reading import num_unsent
from components.tracking.replay import Follower, locked
from components.tracking.spool import EVENTS, TARGET
from components.tracking.store_checks import brief

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0


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


def send_left(spools: Iterable[Path], *, limit_s: float) -> tuple[Unsent, ...]:
    """Send all events that wait in spools nobody writes to any more.

    Args:
        limit_s: seconds for all of them together; what is not sent by then stays where it is.

    Returns:
        The spools that could not be sent.
    """
    end_s = time.monotonic() + limit_s
    left = []
    for spool in spools:
        if num_unsent(spool):
            reason = _send(spool, end_s)
            if reason is not None:
                left.append(Unsent(spool, num_unsent(spool), reason))
    return tuple(left)


def _send(spool: Path, end_s: float) -> str | None:
    """Return why the spool could not be sent; None when it was."""
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        return "there was no time left"
    try:
        with quick_settings(), locked(spool, wait=False):
            return within(left_s, lambda: _drain(spool, end_s))
    except BlockingIOError:
        return "another process is sending them"
    except TimeoutError as error:
        return f"the store: {error}"
    except OSError as error:  # a volume that may be read only
        return brief(error)


def _drain(spool: Path, end_s: float) -> str | None:
    from components.tracking.retry import is_refusal  # imports mlflow

    follower, pause_s = Follower(spool), _FIRST_PAUSE_S
    while True:
        try:
            while follower.drain(last=True):
                pass
            return None
        except Exception as error:  # whatever a store can raise: it is tried again, and told
            if is_refusal(error):
                return f"the store refuses us: {brief(error)}"
            if time.monotonic() + pause_s > end_s:
                return f"the store is away: {brief(error)}"
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _is_spool(folder: Path) -> bool:
    return (folder / TARGET).is_file()


def _begun(spool: Path) -> str:
    """Files of events are named by the time at which they were begun."""
    return min((path.name for path in (spool / EVENTS).glob("*.jsonl")), default="")
