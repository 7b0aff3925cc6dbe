"""Two arms of a search, the method and its control, on one machine."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from nascore.processors import num_cpus

_First = TypeVar("_First")
_Second = TypeVar("_Second")


def run_pair(
    first: Callable[[], _First], second: Callable[[], _Second], *, at_once: bool
) -> tuple[_First, _Second]:
    """Run two arms one after the other; or, where there are cores for both, at the same time.

    Args:
        at_once: each arm uses one thread only, from its start: part of torch's setting is global,
            and an arm must not change that of the other in the middle of a sum.
    """
    if not at_once or num_cpus() == 1:
        return first(), second()
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            one, other = pool.submit(first), pool.submit(second)
            return one.result(), other.result()
    finally:
        torch.set_num_threads(threads)
