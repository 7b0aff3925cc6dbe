"""Child process that runs the pipeline: its start, its progress, its end and its failure."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from nascore.errors import Problem
from pipelines.definitions.kinds import Kind
from pipelines.local.output import Output
from pipelines.local.progress import Display, follow
from pipelines.local.run import LOG, PROGRESS

_WRONG = "the input is wrong"
_STOP_S = 45.0  # the step saves (15 s), then the spool is sent as far as it goes
_TAIL_BYTES = 2**16
_ERROR = re.compile(r"^[\w.]*(Error|Exception|Failed|Exit|Interrupt|Warning)\b.*")
# kfp's last line: the task of the pipeline, numbered where a step stands in several branches.
_FAILED_TASK = re.compile(r"Inner task failed: (?:\x1b\[\d+m)?'([a-z-]+?)(?:-\d+)?'")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run ended without a result.

    Attributes:
        step: step that was running.
        error: error of the step.
        problems: problems of the input, if that was the reason.
        has_trained: whether anything was trained before.
    """

    step: str
    error: str
    problems: tuple[Problem, ...] = ()
    has_trained: bool = False


class RunInterrupted(Exception):
    """A signal requested the end of the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def run_pipeline(output: Output, console: Console, kind: Kind = "search") -> Failure | None:
    """Run the pipeline in a new process group; return why it failed, or None.

    Raises:
        RunInterrupted: ctrl-C or SIGTERM. The processes of the run have ended, its work is saved.
    """
    with _signals_raise(), Display(console, kind) as display:
        process = _start(output, kind)
        try:
            follow(output.folder / PROGRESS, display, is_running=lambda: process.poll() is None)
        except RunInterrupted:
            display.say("Stopping: the step under way saves what it has (ctrl-C again to not wait)")
            _stop(process)
            raise
    if process.returncode < 0:  # killed: its step would continue next to a resumed run
        _end_orphans(process.pid)
    return None if process.returncode == 0 else _failure(display, output.folder / LOG)


def _start(output: Output, kind: Kind) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.local.run", "--out", str(output.folder)]
    command += ["--kind", kind]
    with open(output.folder / LOG, "ab") as log:
        return subprocess.Popen(
            [*command, "--parent", str(os.getpid())],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(output.lock,),
        )


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Raise `RunInterrupted` for signals that end a command, except ignored ones (nohup)."""
    before = {
        signum: signal.signal(signum, _raise)
        for signum in _SIGNALS
        if signal.getsignal(signum) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _raise(signum: int, frame: FrameType | None) -> None:
    raise RunInterrupted(signum)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process, so that the step can save; kill it later or at a second signal."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired, RunInterrupted):
        process.wait(timeout=_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_orphans(group: int) -> None:
    """Terminate what is left of a process group, so that the step can save, and then kill it."""
    import psutil

    orphans = [process for process in psutil.process_iter() if _is_member(process.pid, group)]
    for process in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(orphans, timeout=_STOP_S)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _is_member(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except OSError:  # it has ended, or belongs to another user
        return False


def _failure(display: Display, log: Path) -> Failure:
    event = display.failure
    if event is None:
        text = _tail(log)
        return Failure(_failed_step(text) or display.step or "pipeline", _last_error(text))
    if event["event"] == "input_error":
        problems = tuple(Problem.from_json(problem) for problem in event["problems"])
        error = "a service refuses what the run needs" if display.has_trained else _WRONG
        return Failure(event["step"], error, problems, has_trained=display.has_trained)
    return Failure(event["step"], event["error"])


def _tail(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")


def _failed_step(text: str) -> str | None:
    """Return the step that kfp names as failed: it may have failed before it reported its start."""
    found = _FAILED_TASK.findall(text)
    return found[-1].replace("-", "_") if found else None


def _last_error(text: str) -> str:
    """Return the most relevant line of the log of a process that has reported no error.

    kfp's own error is last, so the search starts before its traceback.
    """
    ours, _, _ = text.rpartition("\nTraceback (most recent call last):")
    lines = [line.strip() for line in (ours or text).splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return errors[-1] if errors else "it ended without a word (killed? out of memory?)"
