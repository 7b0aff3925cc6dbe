"""From image files to pixels, in threads; Pillow decodes outside the interpreter lock."""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nascore.config import DataConfig
from nascore.data.files import Entry, Files
from nascore.data.raw import Raw, problem, refuse, shortened
from nascore.errors import Problem
from nascore.processors import num_cpus

_THREADS = 8  # more than cores: reading waits for the disk
_CHUNK = 4096  # files in flight: millions of futures at once would fill the memory
# What Pillow raises on files that are damaged, cut short or absurdly large.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    MemoryError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def decode_one(source: BinaryIO, *, size: int, channels: int) -> NDArray[np.uint8]:
    """One image as uint8 (size, size, channels). Raises OSError when it is damaged."""
    try:
        with Image.open(source) as image:
            converted = image.convert("L" if channels == 1 else "RGB")
    except UNREADABLE as error:
        raise OSError(f"cannot decode image ({error})") from error
    if converted.size != (size, size):
        converted = converted.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(converted, np.uint8).reshape(size, size, channels)


def decode_all(
    files: Files, entries: Sequence[Entry], *, size: int, channels: int, config: DataConfig
) -> NDArray[np.uint8]:
    """All files as uint8 (N, size, size, channels).

    Raises:
        InputError: naming the files that cannot be decoded.
    """
    images = np.empty((len(entries), size, size, channels), np.uint8)

    def one(item: tuple[int, Entry]) -> Problem | None:
        position, entry = item
        try:
            with files.open(entry) as file:
                images[position] = decode_one(file, size=size, channels=channels)
        except OSError as error:
            return problem(config, f"{entry.name}: {error}; repair or remove it")
        return None

    found = in_threads(one, list(enumerate(entries)), threads=files.num_threads)
    problems = [each for each in found if each is not None]
    refuse(shortened(problems, config))
    return images


@dataclass(frozen=True)
class Scan:
    """What one pass over streamed files found.

    Attributes:
        histogram: int64 (channels, 256), pixel values of the counted images.
        file_sha256: digest of the bytes of each file, in order.
    """

    histogram: NDArray[np.int64]
    file_sha256: list[bytes]


def scan(raw: Raw, *, counted: NDArray[np.int64], config: DataConfig) -> Scan:
    """Decodes every file of a streamed source once, keeping nothing of it in memory.

    It costs what one epoch's reading costs, finds damaged files before any training, and makes
    the statistics exact.

    Args:
        counted: positions of the images whose pixels enter the histogram.

    Raises:
        InputError: naming the files that cannot be decoded.
    """
    files = raw.files
    assert files is not None
    is_counted = np.zeros(len(raw.entries), bool)
    is_counted[counted] = True

    def one(item: tuple[int, Entry]) -> tuple[bytes, NDArray[np.int64] | None] | Problem:
        position, entry = item
        try:
            with files.open(entry) as file:
                content = file.read()
            image = decode_one(io.BytesIO(content), size=raw.size, channels=raw.channels)
        except OSError as error:
            return problem(config, f"{entry.name}: {error}; repair or remove it")
        values = count_values(image) if is_counted[position] else None
        return hashlib.sha256(content).digest(), values

    histogram = np.zeros((raw.channels, 256), np.int64)
    digests: list[bytes] = []
    problems: list[Problem] = []
    for found in in_threads(one, list(enumerate(raw.entries)), threads=files.num_threads):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        digest, values = found
        digests.append(digest)
        if values is not None:
            histogram += values
    refuse(shortened(problems, config))
    return Scan(histogram, digests)


def count_values(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value 0..255 occurs in each channel: (..., C) -> int64 (C, 256)."""
    channels = images.shape[-1]
    pixels = images.reshape(-1, channels)
    return np.stack([np.bincount(pixels[:, c], minlength=256) for c in range(channels)])


def in_threads(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, threads: int = 1
) -> Iterator[_Result]:
    """Results in the order of the items.

    Args:
        threads: at least this many; more than for a disk are worth it when a network is waited for.
    """
    with ThreadPoolExecutor(max(threads, min(_THREADS, 4 * num_cpus()))) as pool:
        for start in range(0, len(items), _CHUNK):
            yield from pool.map(function, items[start : start + _CHUNK])
