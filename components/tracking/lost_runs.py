"""Ends, as events of a spool, the runs whose processes are gone without writing an end.

A killed process and a full disk leave no end. Where the spool holds all events of a pipeline run,
and no process writes to it any more, the missing ends are known. On a cluster each step has a spool
of its own, so that others end the pipeline's run (`components.tracking.closing`).
"""

from pathlib import Path

from components.ending import TAG_KIND, TAG_REASON
from components.tracking.closing import LOST
from components.tracking.reading import num_unsent
from components.tracking.spool import EVENTS, Tracker
from components.tracking.system_metrics import OpenRuns

_WHOLE = "whole_pipeline"  # file in the spool
_LABEL = "lost"
_REASON = "no end was written: the process was killed, or the disk was full"


def mark_whole(spool: Path) -> None:
    """Note that a spool holds all events of a pipeline run."""
    (spool / _WHOLE).touch()


def is_left(spool: Path) -> bool:
    """Return whether a spool of an ended run holds unsent events or runs without an end."""
    return num_unsent(spool) > 0 or bool(_open_runs(spool))


def end_lost_runs(spool: Path) -> None:
    """Append the missing ends, at the time of the last event; call it with the spool locked.

    Raises:
        OSError: the disk is full.
    """
    keys = _open_runs(spool)
    if not keys:
        return
    files = (spool / EVENTS).glob("*.jsonl")
    time_ms = max(path.stat().st_mtime_ns for path in files) // 1_000_000
    tracker = Tracker(spool, _LABEL)
    for key in sorted(keys, key=lambda key: -key.count(".")):  # from the children up
        tags = {TAG_REASON: _REASON, TAG_KIND: LOST}
        tracker.append(key, "tags", values=tags, time_ms=time_ms)
        tracker.append(key, "end", status="FAILED", time_ms=time_ms)
    tracker.close()


def _open_runs(spool: Path) -> list[str]:
    return OpenRuns(spool).current() if (spool / _WHOLE).exists() else []
