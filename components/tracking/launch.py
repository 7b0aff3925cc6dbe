"""Starts the follower of a spool as a process of its own, and ends it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from components.tracking.spool import CLOSED

_END_S = 10.0


@contextlib.contextmanager
def follower(spool: Path, *, grace_s: float = 60.0) -> Iterator[None]:
    """Replays the spool to MLflow in a process of its own while the block runs.

    At the end the follower gets `grace_s` seconds for what is left; what it cannot send stays in
    the spool, and it says how to send it later. A follower that died is started once more.
    """
    spool.mkdir(parents=True, exist_ok=True)
    (spool / CLOSED).unlink(missing_ok=True)
    process = _start(spool)
    try:
        yield
    finally:
        (spool / CLOSED).touch()
        if process.poll() is not None:
            process = _start(spool)
        _finish(process, grace_s)


def _start(spool: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "components.tracking.follow", "--spool", str(spool)]
    return subprocess.Popen([*command, "--until-closed", "--parent", str(os.getpid())])


def _finish(process: subprocess.Popen[bytes], grace_s: float) -> None:
    for end, seconds in ((None, grace_s), (process.terminate, _END_S), (process.kill, None)):
        if end is not None:
            end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
            return
