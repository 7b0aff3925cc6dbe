"""Additional worker processes of a search on this machine.

    python -m components.steps.workers DATASET CONTROLLER STATE RUN_KEY PARENT_PID

A worker shares only files and the study with the step. It is a program of its own and not a spawned
function of `multiprocessing`: its threads, its GPU and its rank are environment variables that must
be set before torch is imported, and a spawned process would import the main module of the caller.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from components.steps.context_builder import StepInputs, build_context
from components.steps.device_processes import device_processes, gpus, trains_children
from components.steps.runtime import read_config
from nascore.context import Callbacks
from nascore.methods.registry import METHODS
from nascore.processors import num_cpus

_POLL_S = 0.5
_STOP_TIMEOUT_S = 4.0  # a worker that gets SIGTERM stops after the current weight update
_MAX_STARTS = 20  # of one worker; with more ends there is an error that a start cannot fix


@contextlib.contextmanager
def worker_processes(inputs: StepInputs, count: int, callbacks: Callbacks) -> Iterator[None]:
    """Run `count` worker processes in addition to this one while the block runs.

    A worker that dies is replaced. Workers that train one network together are a group with this
    process as the first, as torchrun would start them; there the loss of one ends all, and the next
    try of the step resumes from the checkpoint.

    Args:
        inputs: input of the search.
        count: number of processes to start; 0 starts none.
        callbacks: `on_message` reports a worker that died; `should_stop` ends all workers.
    """
    is_group = METHODS[inputs.config.method].worker_layout == "group" and count > 0
    num_devices = inputs.config.training.devices if trains_children(inputs) else 1
    workers = _Workers(inputs, count + 1, is_group, num_devices, callbacks)
    with _group_environment(count + 1) if is_group else contextlib.nullcontext():
        watchers = [
            threading.Thread(target=workers.keep_running, args=(place,))
            for place in range(1, count + 1)
        ]
        for watcher in watchers:
            watcher.start()
        try:
            yield
        finally:
            workers.is_over.set()
            for watcher in watchers:
                watcher.join()


@contextlib.contextmanager
def _group_environment(size: int) -> Iterator[None]:
    """Set the variables by which torch.distributed finds a group; this process is its first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        **{"WORLD_SIZE": str(size), "RANK": "0", "LOCAL_RANK": "0"},
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True, slots=True)
class _Workers:
    """The worker processes of a step.

    Attributes:
        size: number of processes, the one of the step included.
        is_group: whether they train one network together.
        num_devices: on which each of them trains a child.
        is_over: set when the step has finished its own part.
    """

    inputs: StepInputs
    size: int
    is_group: bool
    num_devices: int
    callbacks: Callbacks
    is_over: threading.Event = field(default_factory=threading.Event)

    def keep_running(self, place: int) -> None:
        """Run the worker of a place, and start it again when it dies, until the work is done."""
        for _ in range(1 if self.is_group else _MAX_STARTS):
            status = self._run(place)
            if status == 0 or self._should_end():
                return
            again = "" if self.is_group else "; it is started again"
            self.callbacks.on_message(f"worker {place} ended with status {status}{again}")
        if not self.is_group:
            self.callbacks.on_message(
                f"worker {place} has died {_MAX_STARTS} times; the others continue without it"
            )

    def _should_end(self) -> bool:
        return self.is_over.is_set() or self.callbacks.should_stop()

    def _run(self, place: int) -> int:
        """Run the process of a place to its end and return its exit status."""
        process = subprocess.Popen(self._command(), env=self._environment(place))
        while process.poll() is None and not self.is_over.wait(_POLL_S):
            if self.callbacks.should_stop():
                break
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_STOP_TIMEOUT_S)
            process.kill()
        return process.wait()

    def _command(self) -> list[str]:
        folders = (self.inputs.dataset, self.inputs.controller, self.inputs.state)
        paths = [str(folder.absolute()) for folder in folders]
        return [sys.executable, "-m", __name__, *paths, self.inputs.run_key, str(os.getpid())]

    def _environment(self, place: int) -> dict[str, str]:
        """Return the environment of a process: its share of the cores, and of several GPUs."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, num_cpus() // self.size))}
        names = gpus()
        if len(names) > 1:
            first = place * self.num_devices
            own = [names[(first + i) % len(names)] for i in range(self.num_devices)]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        if self.is_group:
            environment["RANK"] = str(place)
        return environment


# --- the process of a worker ------------------------------------------------------------------


class EventCallbacks(Callbacks):
    """Ends a search when an event is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def should_stop(self) -> bool:
        """Return whether the event is set."""
        return self._stop.is_set()


def work(inputs: StepInputs, callbacks: Callbacks) -> None:
    """Train children of the study until the budget is spent or `callbacks` ask to stop."""
    from nascore.search.runner import SearchFailed

    context = build_context(inputs, callbacks, is_secondary_worker=True)
    # The other workers may have finished no child yet; the search step reports a failed search.
    with contextlib.suppress(SearchFailed), device_processes(inputs, "children"):
        METHODS[inputs.config.method].load().search(context)


def _stop_with_parent(parent: int, stop: threading.Event) -> None:
    """Stop when the step was killed: no process would read what is trained after that."""
    while os.getppid() == parent:
        time.sleep(1)
    stop.set()


def main() -> int:
    """Run one worker; see the module docstring for its arguments."""
    dataset, controller, state, run_key, parent = sys.argv[1:]
    stop = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches the step, which forwards it
    threading.Thread(target=_stop_with_parent, args=(int(parent), stop), daemon=True).start()
    inputs = StepInputs(
        config=read_config(Path(dataset)),
        dataset=Path(dataset),
        controller=Path(controller),
        state=Path(state),
        run_key=run_key,
    )
    work(inputs, EventCallbacks(stop))
    if stop.is_set():
        os._exit(0)  # the teardown of torch takes a second, and the step waits for this process
    return 0


if __name__ == "__main__":
    sys.exit(main())
