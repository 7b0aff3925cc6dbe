"""How many CPU threads torch uses; it is the same again afterwards."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads_of(*, one: bool) -> Iterator[None]:
    """One thread for small work, else as many as there are.

    Threads that share little work wait for each other, and on a machine that has other work they
    wait long. Whether work is small has to follow from sizes alone, since the number of threads
    changes the last bits of a sum, and a result must repeat.
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
    """For what is small on every machine; results do not depend on how many threads that has."""
    with threads_of(one=True):
        yield
