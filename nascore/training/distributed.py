"""Processes that train one network together, each on its part of a batch.

`torchrun` starts them and `joined` brings them together; a process that was started alone is a
group of one, for which everything here is free. All processes do the same and hold the same
weights: what could differ between them (the clock, a signal to stop) is agreed on.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(minutes=10)  # for a process that judges its share of the architectures


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes files and tells the outside."""
    return rank() == 0


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Within the block the processes that torchrun has started are one group."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def part(batch: Tensor) -> Tensor:
    """This process's rows of a batch; every row belongs to one process."""
    return batch[rank() :: size()]


def sum_(tensors: Sequence[Tensor]) -> None:
    """Adds up, in place, what the processes hold in tensors of the same shapes."""
    if size() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(summed.view_as(tensor))


def agree(value: float, *, device: torch.device) -> float:
    """The value of the first process."""
    if size() == 1:
        return value
    told = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(told, src=0)
    return float(told)


def any_of(flag: bool, *, device: torch.device) -> bool:
    """Whether the flag is up in one of the processes."""
    if size() == 1:
        return flag
    raised = torch.tensor([float(flag)], device=device)
    dist.all_reduce(raised)
    return bool(raised > 0)
