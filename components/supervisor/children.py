"""The child process that does a step's work: started, watched, and its end read."""

import contextlib
import json
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

from components.ending import END_FILE, End
from components.supervisor.memory import Memory, advice

_LOOK_S = 0.1
_STOP_S = 25.0  # less than Kubernetes's 30 s; a pod of Argo lives no longer than a second anyway


class Stop:
    """A signal handler that forwards the request to stop to the child that runs now."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.ask()

    def ask(self) -> None:
        self.asked.set()
        self.forward()

    def forward(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    @contextlib.contextmanager
    def of(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        self._child = child
        if self.asked.is_set():  # the signal came while the child was being started
            self.forward()
        try:
            yield
        finally:
            self._child = None


def run_child(
    step: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    stop: Stop,
    memory: Memory | None,
    on_look: Callable[[], None] = lambda: None,
) -> End | None:
    """Run the work once and wait for its end.

    Args:
        stop: forwards a signal to the child.
        memory: of the container; the child is killed shortly before its limit.
        on_look: called about ten times a second while the child works.

    Returns:
        None when the work succeeded, else how it ended.
    """
    kills_before = 0 if memory is None else memory.num_kills()
    with tempfile.TemporaryDirectory(prefix="nas-end-") as folder:
        written = Path(folder) / "end.json"
        child = subprocess.Popen(command, env={**environment, END_FILE: str(written)})
        with stop.of(child):
            is_full = _watch(child, stop, memory, on_look)
        if child.returncode == 0:
            return None
        kills = 0 if memory is None else memory.num_kills() - kills_before
        if is_full or (kills > 0 and child.returncode == -signal.SIGKILL):
            return End(step, "memory", advice(step, memory))
        if written.exists():
            return End(**json.loads(written.read_text()))
    if stop.asked.is_set():
        return End(step, "stopped", "asked to stop (SIGTERM)")
    return End(step, "crash", _status_text(child.returncode))


def _watch(
    child: subprocess.Popen[bytes],
    stop: Stop,
    memory: Memory | None,
    on_look: Callable[[], None],
) -> bool:
    """Wait for the child; return whether it was killed here because memory was nearly full."""
    is_full, stopped_s = False, None
    while child.poll() is None:
        if memory is not None and not is_full and memory.is_nearly_full():
            is_full = True
            _kill_tree(child.pid)
        if stop.asked.is_set():
            stopped_s = stopped_s or time.monotonic()
            if time.monotonic() - stopped_s > _STOP_S:
                _kill_tree(child.pid)
        on_look()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_LOOK_S)
    return is_full


def _kill_tree(pid: int) -> None:
    """Kill a process and all its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def _status_text(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}, without a reason"
