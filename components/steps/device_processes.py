"""Processes of a step that train one network together, one for each of `training.devices`.

    python -m components.steps.device_processes INPUT

The process of the step is the first of the group. It starts the others with INPUT, a JSON object;
they train what it trains, write nothing, and end with it. If one of them dies, the step fails, and
its next try continues from the state of the step.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from components.steps.context_builder import StepInputs, build_context
from components.steps.runtime import read_config
from components.steps.trainings import dismiss, follow
from components.steps.transfer import with_transfer
from nascore.config import CommonTrainingConfig
from nascore.context import device_of
from nascore.errors import InputError
from nascore.methods.registry import METHODS
from nascore.training import distributed

Task = Literal["children", "final"]
_HOST = "127.0.0.1"
_POLL_S = 0.1
_STOP_TIMEOUT_S = 4.0


class DeviceProcessDied(RuntimeError):
    """A process of a group has died; the others cannot train without it."""


@dataclass(frozen=True, slots=True)
class _Member:
    """Input of a process: folders as in `StepInputs`, and its place in the group.

    Attributes:
        task: what the processes train.
        parent: process id of the step.
    """

    dataset: str
    controller: str
    state: str
    run_key: str
    weights: str | None
    task: Task
    rank: int
    size: int
    port: int
    parent: int


@contextlib.contextmanager
def device_processes(inputs: StepInputs, task: Task) -> Iterator[None]:
    """Make this process the first of `training.devices` that train together in the block.

    Args:
        inputs: of the step.
        task: what is trained in the block: children, or networks by the final recipe.

    Raises:
        InputError: this machine has fewer GPUs than `training.devices`.
        DeviceProcessDied: one of the processes has died.
    """
    size = inputs.config.training.devices
    if size == 1 or (task == "children" and not trains_children(inputs)):
        yield
        return
    device = device_of(inputs.config.training)
    check_gpus(inputs.config.training)
    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    members = [
        _Member(
            dataset=str(inputs.dataset.absolute()),
            controller=str(inputs.controller.absolute()),
            state=str(inputs.state.absolute()),
            run_key=inputs.run_key,
            weights=None if inputs.weights is None else str(inputs.weights.absolute()),
            task=task,
            rank=rank,
            size=size,
            port=store.port,
            parent=os.getpid(),
        )
        for rank in range(1, size)
    ]
    processes = [_start(member) for member in members]
    try:
        _wait_for(processes, store)
        with distributed.joined_by(store, rank=0, size=size, device=device):
            try:
                yield
            finally:
                dismiss()
    except RuntimeError as error:
        time.sleep(_POLL_S)  # a connection is closed before its process has ended
        _raise_if_dead(processes, error)
        raise
    finally:
        _end(processes)


def trains_children(inputs: StepInputs) -> bool:
    """Return whether a search trains children: others share weights among `search.workers`."""
    return METHODS[inputs.config.method].worker_layout == "study"


def check_gpus(training: CommonTrainingConfig) -> None:
    """Raise InputError if this machine has GPUs, but fewer than `training.devices`."""
    count = torch.cuda.device_count()
    if device_of(training).type == "cuda" and training.devices > count:
        raise InputError.of(
            "training.devices",
            training.devices,
            f"there are {count} GPUs here; use at most {count}, or training.device=cpu",
        )


def gpus() -> list[str]:
    """Return the GPUs that this process may use, by their names for CUDA_VISIBLE_DEVICES."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(index) for index in range(torch.cuda.device_count())]


def _start(member: _Member) -> "subprocess.Popen[bytes]":
    """Start a process that, where there are GPUs, has its own one."""
    environment = dict(os.environ)
    names = gpus()
    if len(names) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = names[member.rank % len(names)]
    command = [sys.executable, "-m", __name__, json.dumps(asdict(member))]
    return subprocess.Popen(command, env=environment)


def _wait_for(processes: Sequence["subprocess.Popen[bytes]"], store: TCPStore) -> None:
    """Wait until all processes have read the data; the group could not be made without one."""
    while not store.check([_ready(rank) for rank in range(1, len(processes) + 1)]):
        _raise_if_dead(processes)
        time.sleep(_POLL_S)


def _ready(rank: int) -> str:
    return f"nas/ready/{rank}"


def _raise_if_dead(
    processes: Sequence["subprocess.Popen[bytes]"], error: Exception | None = None
) -> None:
    for rank, process in enumerate(processes, start=1):
        if process.poll() not in (None, 0):
            raise DeviceProcessDied(
                f"process {rank + 1} of the {len(processes) + 1} of training.devices ended with "
                f"status {process.returncode}; its last lines above say why"
            ) from error


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Wait for processes that are at their end, and end the others."""
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        process.kill()
        process.wait()


# --- the other processes ----------------------------------------------------------------------


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> int:
    """Run one process; see the module docstring for its argument."""
    member = _Member(**json.loads(sys.argv[1]))
    for number in (signal.SIGINT, signal.SIGTERM):
        # They reach the step, too, which saves the training with this process before it ends it.
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(member.parent,), daemon=True).start()
    config, dataset = read_config(Path(member.dataset)), Path(member.dataset)
    context = build_context(
        StepInputs(
            config=config,
            dataset=dataset,
            controller=Path(member.controller),
            state=Path(member.state),
            run_key=member.run_key,
            weights=None if member.weights is None else Path(member.weights),
        ),
        is_secondary_worker=True,
    )
    if member.task == "final":
        context = with_transfer(context, config, dataset, state=Path(member.state), say=print)
    store = TCPStore(_HOST, member.port, is_master=False)
    store.set(_ready(member.rank), "")
    device = device_of(context.training)
    with distributed.joined_by(store, rank=member.rank, size=member.size, device=device):
        follow(context)
    return 0


if __name__ == "__main__":
    sys.exit(main())
