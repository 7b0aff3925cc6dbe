"""Number of CPU threads of torch in a block; it is restored afterwards."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads_of(*, one: bool) -> Iterator[None]:
    """Use one thread for small work, else all.

    Threads that share little work wait for each other, and longer on a machine with other work.
    Whether work is small has to follow from sizes alone: the number of threads changes the last
    bits of a sum, and a result must be reproducible.
    """
    threads = torch.get_num_threads()
    if one:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread for work that is small on every machine, so that results are the same."""
    with threads_of(one=True):
        yield
