"""Many files at a time, in threads; Pillow decodes outside the interpreter lock."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nascore.processors import num_cpus

_log = logging.getLogger(__name__)
LOG_EVERY_S = 10.0
_THREADS = 8  # more than cores: reading waits for the disk
_CHUNK = 4096  # files in flight: millions of futures at once would fill the memory
_BATCH = 16
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    threads: int = 1,
    chunk: int = _CHUNK,
    what: str = "",
) -> Iterator[_Result]:
    """Results in the order of the items.

    Args:
        threads: at least this many; more than for a disk are worth it when a network is waited for.
        chunk: results that are held at most.
        what: what is done, for a log line every ten seconds.
    """

    def several(batch: Sequence[_Item]) -> list[_Result]:
        return [function(item) for item in batch]

    logged = time.monotonic()
    num_threads = max(threads, min(_THREADS, 4 * num_cpus()))
    # A task costs as much as the header of a small file; a few files make one.
    size = max(1, min(_BATCH, min(len(items), chunk) // (4 * num_threads)))
    with ThreadPoolExecutor(num_threads) as pool:
        for start in range(0, len(items), chunk):
            part = items[start : start + chunk]
            for results in pool.map(
                several, [part[k : k + size] for k in range(0, len(part), size)]
            ):
                yield from results
            if what and time.monotonic() - logged > LOG_EVERY_S:
                logged = time.monotonic()
                _log.info("%s: %s of %s", what, f"{start + chunk:,}", f"{len(items):,}")
