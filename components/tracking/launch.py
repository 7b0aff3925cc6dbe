"""Start the follower of a spool as a process of its own, and end it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from components.tracking.reading import forget_refusal
from components.tracking.spool import CLOSED

_END_S = 10.0
_HURRIED_S = 0.8  # for sending, and a little more for the last message
_LAST_MESSAGE_S = 0.3


@contextlib.contextmanager
def follower(
    spool: Path,
    *,
    grace_s: float = 60.0,
    is_hurried: Callable[[], bool] = lambda: False,
    later: str = "",
) -> Iterator[None]:
    """Replay the spool to MLflow in a process of its own while the block runs.

    What the follower cannot send at the end stays in the spool, and it prints how to send it later.
    A follower that died is started once more.

    Args:
        spool: its folder.
        grace_s: time for what is left at the end.
        is_hurried: whether there is only one second for it, as after a second Ctrl-C.
        later: who sends by itself what is left then, for the message, such as `the next run sends
            them`.
    """
    spool.mkdir(parents=True, exist_ok=True)
    (spool / CLOSED).unlink(missing_ok=True)
    forget_refusal(spool)
    process = _start(spool, later)
    try:
        yield
    finally:
        (spool / CLOSED).touch()
        if process.poll() is not None and not is_hurried():
            process = _start(spool, later)
        _finish(process, *((_HURRIED_S, _LAST_MESSAGE_S) if is_hurried() else (grace_s, _END_S)))


def _start(spool: Path, later: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "components.tracking.replayer", "--spool", str(spool)]
    command += ["--until-closed", "--parent", str(os.getpid()), "--later", later]
    return subprocess.Popen(command)


def _finish(process: subprocess.Popen[bytes], grace_s: float, end_s: float) -> None:
    for end, seconds in ((None, grace_s), (process.terminate, end_s), (process.kill, None)):
        if end is not None:
            end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
            return
