"""Further worker processes of a search on this machine: started, watched, ended.

    python -m components.steps.workers --config FILE --dataset DIR --state DIR ...

is one of them. It shares nothing with the step but files and the study.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from components.config.schema import Config
from components.steps.context_builder import build_task
from components.steps.runtime import read_config
from nascore.methods.registry import METHODS
from nascore.processors import num_cpus

_LOOK_S = 0.5
_END_S = 4.0  # a worker that is told to stop ends within a weight update
_MOST_STARTS = 20  # of one worker; something is wrong with more


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a worker reads."""

    config: Path
    dataset: Path
    controller: Path


@dataclass(frozen=True, slots=True)
class Owner:
    """The step that starts the processes, as far as they depend on it.

    Attributes:
        state: folder of the step, in which they work.
        note: gets a sentence when one of them dies.
        should_stop: whether all are to end.
    """

    config: Config
    run_key: str
    state: Path
    note: Callable[[str], None]
    should_stop: Callable[[], bool]


@contextlib.contextmanager
def worker_processes(owner: Owner, inputs: Inputs, count: int) -> Iterator[None]:
    """Run `count` more workers than this process while the block runs.

    One that dies is replaced. Workers that train one network together are a group with this process
    as the first, as torchrun would start them; there the loss of one is the end of all, and the
    step's next try resumes from the checkpoint.
    """
    together = METHODS[owner.config.method].shares_batches and count > 0
    over = threading.Event()
    with _group_environment(count + 1) if together else contextlib.nullcontext():
        watchers = [
            threading.Thread(
                target=_keep_going, args=(owner, inputs, place, count + 1, over, together)
            )
            for place in range(1, count + 1)
        ]
        for watcher in watchers:
            watcher.start()
        try:
            yield
        finally:
            over.set()
            for watcher in watchers:
                watcher.join()


@contextlib.contextmanager
def _group_environment(size: int) -> Iterator[None]:
    """The variables by which torch.distributed finds a group; this process is its first."""
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


def _keep_going(
    owner: Owner, inputs: Inputs, place: int, size: int, over: threading.Event, together: bool
) -> None:
    """Runs the worker of one place until its work is done or the block ends."""
    for _ in range(1 if together else _MOST_STARTS):
        environment = _environment(place, size)
        if together:
            environment["RANK"] = str(place)
        process = subprocess.Popen(_command(owner, inputs), env=environment)
        while process.poll() is None and not over.wait(_LOOK_S):
            if owner.should_stop():
                break
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_END_S)
            process.kill()
            process.wait()
        if process.returncode == 0 or over.is_set() or owner.should_stop():
            return
        going_on = "" if together else "; starting anew"
        owner.note(f"worker {place} ended ({process.returncode}){going_on}")
    if not together:
        owner.note(f"worker {place} has died {_MOST_STARTS} times; the others go on without it")


def _command(owner: Owner, inputs: Inputs) -> list[str]:
    return [
        *(sys.executable, "-m", __name__),
        *("--config", str(inputs.config.absolute())),
        *("--dataset", str(inputs.dataset.absolute())),
        *("--controller", str(inputs.controller.absolute())),
        *("--state", str(owner.state)),
        *("--run-key", owner.run_key),
        *("--parent", str(os.getpid())),
    ]


def _environment(place: int, size: int) -> dict[str, str]:
    """Cores are shared out, and so are GPUs when there are several."""
    environment = dict(os.environ)
    threads = max(1, num_cpus() // size)
    environment["OMP_NUM_THREADS"] = str(threads)
    gpus = _gpus()
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    return environment


def _gpus() -> list[str]:
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(index) for index in range(torch.cuda.device_count())]


# --- the process of a worker ------------------------------------------------------------------


def work(inputs: Inputs, *, state: Path, run_key: str, stop: threading.Event) -> None:
    """Trains children of the study until the budget is spent or `stop` is set."""
    from nascore.search.runner import SearchFailed

    settings = read_config(inputs.config)
    task = build_task(
        settings,
        dataset=inputs.dataset,
        controller=inputs.controller,
        state=state,
        run_key=run_key,
        should_stop=stop.is_set,
        is_secondary_worker=True,
    )
    # The other workers may have finished none either; the step itself will tell.
    with contextlib.suppress(SearchFailed):
        METHODS[settings.method].load().search(task)


def _end_with(parent: int, stop: threading.Event) -> None:
    """Nobody would collect what is trained after the step was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    stop.set()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m components.steps.workers")
    for name in ("config", "dataset", "controller", "state"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--run-key", required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the step, which forwards it
    threading.Thread(target=_end_with, args=(arguments.parent, stop), daemon=True).start()
    inputs = Inputs(arguments.config, arguments.dataset, arguments.controller)
    work(inputs, state=arguments.state, run_key=arguments.run_key, stop=stop)
    if stop.is_set():
        os._exit(0)  # taking torch apart takes a second, and somebody waits
    return 0


if __name__ == "__main__":
    sys.exit(main())
