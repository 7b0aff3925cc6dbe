"""The child process of `nas run`: started, watched, ended with all that it has started.

Every process of a run inherits one lock as its standard input. Whoever can take that lock knows
that none of them is alive, whichever was killed and however.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any

from rich.console import Console

from pipelines.local import LOG, PROGRESS, RESULT
from pipelines.progress import Display, ProgressFile, follow

LOCK = "lock"
_SAVE_S = 10.0  # what steps get to save their work
_POLL_S = 0.1


class Interrupted(Exception):
    """A signal ended the run; `signum` says which."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def take_lock(out: Path, *, wait_s: float = 0.0) -> IO[bytes] | None:
    """The lock of a run's folder; None when processes of that run still live after `wait_s`."""
    file = open(out / LOCK, "ab")  # noqa: SIM115
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(_POLL_S)


def run_pipeline(out: Path, lock: IO[bytes], console: Console) -> dict[str, Any] | None:
    """Runs the pipeline of `out` and shows its progress.

    Args:
        lock: of `take_lock`; the processes of the run hold it from here on.

    Returns:
        The event that tells what failed (`failed` or `input_error`), or None.

    Raises:
        Interrupted: by SIGINT or SIGTERM; no process of the run is alive any more.
    """
    with _signals_as_exceptions(), Display(console) as display:
        process = _start(out, lock)
        try:
            follow(out / PROGRESS, display, lambda: process.poll() is None)
        finally:
            _end(process, out)
    if display.failure is not None:
        return display.failure
    if process.returncode != 0:
        step = display.step or "pipeline"
        return {"event": "failed", "step": step, "error": _last_line(out / LOG, process.returncode)}
    return None


def add_total(out: Path, total_s: float) -> dict[str, Any]:
    """Adds the time of the whole command to `result.json`, and returns its content.

    Overhead is what was neither data loading nor training nor profiling.
    """
    path = out / RESULT
    result: dict[str, Any] = json.loads(path.read_text())
    busy_s = 0.0
    for event in ProgressFile(out / PROGRESS).new():
        if event["event"] == "finished" and not event.get("restored"):
            busy_s += sum(event["busy"].values())
            result["seconds"][event["step"]] = event["seconds"]
    result["seconds"] |= {"total": round(total_s, 3), "overhead": round(total_s - busy_s, 3)}
    temporary = out / f".{RESULT}"
    temporary.write_text(json.dumps(result, indent=2))
    os.replace(temporary, path)
    return result


def _start(out: Path, lock: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a process group of its own, so that ctrl-C reaches the run through us alone."""
    command = [sys.executable, "-m", "pipelines.local", "--out", str(out)]
    with open(out / LOG, "ab") as log, lock:
        return subprocess.Popen(
            [*command, "--parent", str(os.getpid())],
            stdin=lock,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes], out: Path) -> None:
    """Ends what still lives: politely, so that steps can save, then not. Mostly nothing does."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        free = take_lock(out)
        if free is not None:
            free.close()
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        free = take_lock(out, wait_s=_SAVE_S)
        if free is not None:
            free.close()
    process.wait()


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    def interrupt(signum: int, frame: FrameType | None) -> None:
        for other in before:  # once is enough: what follows is the orderly end
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signum)

    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    for signum in before:
        signal.signal(signum, interrupt)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _last_line(log: Path, returncode: int) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"it ended with status {returncode}"
