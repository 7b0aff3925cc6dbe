"""Starts the follower of a spool as a process of its own, and ends it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from components.tracking.reading import forget_refusal
from components.tracking.spool import CLOSED

_END_S = 10.0
_HASTE_S = 0.8  # for sending, and a little more for the goodbye
_GOODBYE_S = 0.3


def in_no_hurry() -> bool:
    return False


@contextlib.contextmanager
def follower(
    spool: Path, *, grace_s: float = 60.0, is_hurried: Callable[[], bool] = in_no_hurry
) -> Iterator[None]:
    """Replays the spool to MLflow in a process of its own while the block runs.

    At the end the follower gets `grace_s` seconds for what is left, or one when it is hurried; what
    it cannot send stays in the spool, and it says how to send it later. A follower that died is
    started once more.
    """
    spool.mkdir(parents=True, exist_ok=True)
    (spool / CLOSED).unlink(missing_ok=True)
    forget_refusal(spool)
    process = _start(spool)
    try:
        yield
    finally:
        (spool / CLOSED).touch()
        if process.poll() is not None and not is_hurried():
            process = _start(spool)
        _finish(process, *((_HASTE_S, _GOODBYE_S) if is_hurried() else (grace_s, _END_S)))


def _start(spool: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "components.tracking.replayer", "--spool", str(spool)]
    return subprocess.Popen([*command, "--until-closed", "--parent", str(os.getpid())])


def _finish(process: subprocess.Popen[bytes], grace_s: float, end_s: float) -> None:
    for end, seconds in ((None, grace_s), (process.terminate, end_s), (process.kill, None)):
        if end is not None:
            end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
            return
