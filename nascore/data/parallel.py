"""Work on many files: in threads for a network, else in processes."""

import gc
import itertools
import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from nascore.errors import ResourceUnavailable
from nascore.processors import CPUS, num_cpus

_log = logging.getLogger(__name__)
LOG_EVERY_S = 10.0
_THREADS = 8  # more than cores: reading waits for the disk
_CHUNK = 4096  # files in flight: millions of futures at once would fill the memory
_BATCH = 16
_LOOK_EVERY_S = 2.0
_WORTH_PROCESSES = 2048  # files; for fewer, starting processes takes longer than reading
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    threads: int,
    chunk: int = _CHUNK,
    what: str,
) -> Iterator[_Result]:
    """Yield results in the order of the items, from as many processes as `NAS_CPUS` allows.

    Args:
        function: is not pickled; what it returns or raises is.
        threads: as in `in_threads`; more than one means that the work waits for a network, for
            which threads are enough.
        chunk: limit of the results in memory.
        what: name of the work in a log line every ten seconds.

    Raises:
        ResourceUnavailable: A process was killed.
    """
    processes = num_cpus()
    if threads > 1 or processes == 1 or len(items) < _WORTH_PROCESSES:
        yield from in_threads(function, items, threads=threads, chunk=chunk, what=what)
        return
    # A new interpreter would import the program that called us; a copy needs no import at all.
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("fork"), _begin, initargs=(function,)
    )
    try:
        yield from _in_order(pool, _several, items, workers=processes, chunk=chunk, what=what)
    except BrokenProcessPool as error:
        message = (
            f"a process that was at work ({what}) was killed, most likely because memory is short; "
            "give more memory, or fewer processors"
        )
        raise ResourceUnavailable.of(CPUS, processes, message) from error


def in_threads(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    threads: int = 1,
    chunk: int = _CHUNK,
    what: str = "",
) -> Iterator[_Result]:
    """Yield results in the order of the items; Pillow decodes outside the interpreter lock.

    Args:
        threads: least number; a network is worth more of them than a disk.
        chunk: limit of the results in memory.
        what: name of the work in a log line every ten seconds.
    """

    def several(batch: Sequence[_Item]) -> list[_Result]:
        return [function(item) for item in batch]

    workers = max(threads, min(_THREADS, 4 * num_cpus()))
    pool = ThreadPoolExecutor(workers)
    yield from _in_order(pool, several, items, workers=workers, chunk=chunk, what=what)


def _in_order(
    pool: Executor,
    several: Callable[[Sequence[_Item]], list[_Result]],
    items: Sequence[_Item],
    *,
    workers: int,
    chunk: int,
    what: str,
) -> Iterator[_Result]:
    # A task costs as much as the header of a small file; a few files make one.
    size = max(1, min(_BATCH, min(len(items), chunk) // (4 * workers)))
    batches = (items[start : start + size] for start in range(0, len(items), size))
    waiting: deque[Future[list[_Result]]] = deque()
    logged, done = time.monotonic(), 0
    try:
        for batch in itertools.islice(batches, max(2 * workers, chunk // size)):
            waiting.append(pool.submit(several, batch))
        while waiting:
            results = waiting.popleft().result()
            for batch in itertools.islice(batches, 1):
                waiting.append(pool.submit(several, batch))
            yield from results
            done += len(results)
            if what and time.monotonic() - logged > LOG_EVERY_S:
                logged = time.monotonic()
                _log.info("%s: %s of %s", what, f"{done:,}", f"{len(items):,}")
    finally:
        pool.shutdown(cancel_futures=True)


# --- in a process of its own ------------------------------------------------------------------

_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    # A collection would write to every page that is shared with the parent process.
    gc.disable()
    gc.freeze()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process with its parent: it would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def _several(batch: Sequence[Any]) -> list[Any]:
    return [_function(item) for item in batch]
