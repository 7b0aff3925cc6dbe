"""Processes that train one network together, each on its part of a batch.

`joined` makes the processes that torchrun started a group, `joined_by` those that share a store; a
process that was started alone is a group of one. All processes make the same updates of the same
weights: values that could differ (the clock, a signal to stop) are taken from one of them.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

CPU = torch.device("cpu")
_FOREVER = timedelta(days=365)
_PATIENCE = timedelta(minutes=10)  # for a process that evaluates its part of the architectures


def rank() -> int:
    """Return the number of this process in its group, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return the number of processes in the group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def trains_together() -> bool:
    """Return whether the processes of the group divide the batches of each training.

    They do in groups of `joined_by`. Processes of `joined` train shared weights together, but a
    network from scratch each alone.
    """
    return size() > 1 and _messages is not None


def is_first() -> bool:
    """Return whether this process writes files and reports."""
    return rank() == 0


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Make the processes that torchrun has started one group while the block runs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(_backend(device), timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def joined_by(store: Store, *, rank: int, size: int, device: torch.device) -> Iterator[None]:
    """Make the processes that share a store one group while the block runs.

    Args:
        store: of this group alone; also passes messages from `send` to `receive`.
        rank: number of this process, from 0.
        size: number of processes.
        device: of the training.
    """
    global _messages
    dist.init_process_group(
        _backend(device), store=store, rank=rank, world_size=size, timeout=_PATIENCE
    )
    _messages = _Messages(store)
    try:
        yield
    finally:
        _messages = None
        dist.destroy_process_group()


def _backend(device: torch.device) -> str:
    # Tensors on the CPU, such as a decision to stop, do not make the host wait for the GPU.
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def part(batch: Tensor) -> Tensor:
    """Return the rows of a batch (B, ...) that belong to this process; each belongs to one."""
    return batch[rank() :: size()]


def sum_(tensors: Sequence[Tensor]) -> None:
    """Add up, in place, the tensors of all processes, which have the same shapes."""
    if size() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(summed.view_as(tensor))


def agree(value: float, *, device: torch.device) -> float:
    """Return the value of the first process."""
    if size() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(shared, src=0)
    return float(shared)


def any_of(flag: bool, *, device: torch.device) -> bool:
    """Return whether the flag is true in one of the processes."""
    if size() == 1:
        return flag
    raised = torch.tensor([float(flag)], device=device)
    dist.all_reduce(raised)
    return bool(raised > 0)


# --- messages of the first process ------------------------------------------------------------


@dataclass(slots=True)
class _Messages:
    """Messages in a store, for which a process may wait much longer than for a tensor."""

    store: Store
    number: int = 0

    def next_key(self) -> str:
        """Return the name of the next message."""
        self.number += 1
        return f"nas/message/{self.number}"


_messages: _Messages | None = None  # of the group of `joined_by`


def send(message: Any) -> None:
    """Send a value that JSON can hold from the first process to all others."""
    if _messages is not None:
        _messages.store.set(_messages.next_key(), json.dumps(message))


def receive() -> Any:
    """Wait for the next message of the first process and return it."""
    assert _messages is not None, "only processes of `joined_by` receive messages"
    key = _messages.next_key()
    _messages.store.wait([key], _FOREVER)
    return json.loads(_messages.store.get(key))
