"""Arrays of pixels in mapped files, which take memory only where they are read.

A mapped page counts as memory of the process until it is released; the system keeps it in its own
cache as long as there is room.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 4096  # images worked on at a time: a second copy of all would double the memory
_CHUNK_BYTES = 64 * 2**20
_IN_MEMORY = 256 * 2**20  # bytes up to which an array is worth no file


def blank(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return zeros; a large array is in a temporary file without a name.

    Raises:
        OSError: The disk of temporary files has not enough room.
    """
    num_bytes = int(np.prod(shape))
    if num_bytes <= _IN_MEMORY:
        return np.zeros(shape, np.uint8)
    with tempfile.TemporaryFile() as file:
        # A sparse file would end the process when the disk is full.
        os.posix_fallocate(file.fileno(), 0, num_bytes)
        return np.memmap(file, np.uint8, "r+", shape=shape)


def release(values: NDArray[Any]) -> None:
    """Let the system have the memory of a mapped array; its content stays in the file."""
    mapped = getattr(values, "_mmap", None)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def in_chunk(values: NDArray[Any], most: int = CHUNK) -> int:
    """Return the number of values of a chunk."""
    return max(1, min(most, _CHUNK_BYTES // max(1, values[:1].nbytes)))


def chunks(values: NDArray[Any], most: int = CHUNK) -> Iterator[NDArray[Any]]:
    """Yield the values in chunks of a few thousand, or fewer where they are large."""
    count = in_chunk(values, most)
    for start in range(0, len(values), count):
        yield values[start : start + count]
        release(values)
