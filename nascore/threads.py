"""Number of CPU threads of torch in a block; it is restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def thread_limit(number: int | None) -> Iterator[None]:
    """Set the CPU threads of torch inside the block; None leaves them as they are.

    Threads that share little work wait for each other, and longer on a machine with other work, so
    small work is done by one. Whether work is small has to follow from sizes alone: the number of
    threads changes the last bits of a sum, and a result must be reproducible.
    """
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)
