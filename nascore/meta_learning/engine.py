"""Runs a function of one task on several: all at once by `vmap`, or one after the other.

`vmap` over tasks with parameters of their own turns convolutions into grouped ones. That is faster
for small shapes and slower for large ones, by a factor that depends on the machine. One after the
other, images may have their channels last in memory: on a CPU, pooling and batch norm are then
several times as fast, and convolutions somewhat. What is of first order needs no transformation of
`torch.func` then: it may be given once more, written with autograd alone, which has less to do
around every operation. All ways are measured, once for each kind of work, and the fastest is taken
from then on.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

ExecutionMode = Literal["vmap", "loop", "channels_last", "plain"]
OneTask = Callable[..., Any]
"""A function of one task's tensors to a tensor, or a tree of tensors."""

_REPEATS = 3  # the least of a few times is the one that nothing disturbed
_ENOUGH_S = 1.0
_MEASURED = 4  # tasks; all of a step, and not all of those by which a network is judged
_LONG_S = 2.0  # a first run of so long, which warms up as well, tells enough
_DIFFERENT = "different"  # dropout draws for each task anew


def run_vmapped(function: OneTask, *tensors: Tensor) -> Any:
    """Each result stacked over tasks, (T, ...); `tensors` have tasks first."""
    return vmap(function, randomness=_DIFFERENT)(*tensors)


def run_looped(function: OneTask, *tensors: Tensor) -> Any:
    """The same as `run_vmapped`, one task after the other; equal but for rounding."""
    results = [function(*task) for task in zip(*tensors, strict=True)]
    return tree_map(lambda *parts: torch.stack(parts), *results)


def run_channels_last(function: OneTask, *tensors: Tensor) -> Any:
    """The same as `run_looped`; images (T, B, C, H, W) are laid out with the channels last."""
    return run_looped(function, *(_channels_last(x) if x.ndim == 5 else x for x in tensors))


def _channels_last(x_TBCHW: Tensor) -> Tensor:
    # Not `contiguous`: of images with one channel it would leave the strides as they are, and
    # convolutions go by strides.
    return x_TBCHW.movedim(2, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 2)


RUN: dict[ExecutionMode, Callable[..., Any]] = {
    "vmap": run_vmapped,
    "loop": run_looped,
    "channels_last": run_channels_last,
    "plain": run_channels_last,
}


class TaskEngine:
    """Runs tasks in the way that was measured to be faster.

    The ways differ by rounding. A search that must be resumed exactly keeps `chosen` and gives
    it to the engine that goes on.

    Attributes:
        chosen: the way of each kind of work.
        seconds: what was measured for each.
    """

    def __init__(
        self,
        chosen: dict[Hashable, ExecutionMode] | None = None,
        *,
        ways: Mapping[str, ExecutionMode] | None = None,
    ) -> None:
        """
        Args:
            ways: of work by the name of its kind, whatever its shape; it is not measured.
        """
        self._ways = dict(ways or {})
        self.chosen: dict[Hashable, ExecutionMode] = dict(chosen or {})
        self.seconds: dict[tuple[Hashable, ...], dict[ExecutionMode, float]] = {}

    def run(
        self, kind: str, function: OneTask, *tensors: Tensor, plain: OneTask | None = None
    ) -> Any:
        """`function` on each task; results are stacked over tasks.

        Args:
            kind: names the function and the network; shapes, type and device are added to it.
            tensors: (T, ...) each, the arguments of `function`. It must be pure: it is called
                several times when its kind is new.
            plain: the same by autograd alone, where there is such a function.
        """

        def run(way: ExecutionMode, tensors: Sequence[Tensor] = tensors) -> Any:
            if way != "plain":
                return RUN[way](function, *tensors)
            if plain is None:
                raise ValueError(f"{kind} is not there by autograd alone")
            return RUN[way](plain, *tensors)

        if kind in self._ways:
            return run(self._ways[kind])
        first = tensors[0]
        key = (kind, *(tuple(x.shape) for x in tensors), str(first.dtype), str(first.device))
        if key not in self.chosen:
            few = [x[:_MEASURED] for x in tensors]
            seconds = {
                way: _measure(partial(run, way, few), first.device)
                for way in _ways(tensors, has_plain=plain is not None)
            }
            self.seconds[key] = seconds
            self.chosen[key] = min(seconds, key=lambda way: seconds[way])
        return run(self.chosen[key])


def _ways(tensors: tuple[Tensor, ...], *, has_plain: bool) -> list[ExecutionMode]:
    """Those that differ: without images there are no channels."""
    absent = set() if has_plain else {"plain"}
    if not any(x.ndim == 5 for x in tensors):
        absent.add("channels_last")
    return [way for way in RUN if way not in absent]


def _measure(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds; the least of a few runs after a first one, and of what takes long fewer."""
    # Other work on the machine slows this down, and not one way more than the other.
    one_thread = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if one_thread else time.perf_counter

    def timed() -> float:
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    first = timed()
    if first > _LONG_S:
        return first
    times = [timed()]
    while len(times) < _REPEATS and sum(times) < _ENOUGH_S:
        times.append(timed())
    return min(times)
