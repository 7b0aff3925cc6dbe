"""A cache that never holds more than it may, whoever writes to it and whenever they die."""

import contextlib
import logging
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from components.object_store.cache import Cache


def held(folder: Path) -> int:
    """A file that gets its name between two looks is there once."""
    sizes = {}
    for path in folder.glob("??/*"):
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


def never() -> bytes:
    raise AssertionError("fetched again")


def test_what_is_there_is_not_fetched(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1000)
    assert cache.get("a", 3, lambda: b"abc") == b"abc"
    assert Cache(tmp_path, max_bytes=1000).get("a", 3, never) == b"abc"
    assert cache.get("a", 4, lambda: b"abcd") == b"abcd"


def test_least_recently_used_makes_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1000)
    for number in range(10):
        cache.get(str(number), 100, lambda: b"x" * 100)
    past = time.time() - 60
    for path in tmp_path.glob("??/*"):
        os.utime(path, (past, past))
    cache.get("0", 100, never)
    cache.get("new", 100, lambda: b"y" * 100)
    assert held(tmp_path) <= 1000
    assert cache.get("0", 100, never)
    assert cache.get("new", 100, never)


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    assert len(Cache(tmp_path, max_bytes=10).get("a", 11, lambda: bytes(11))) == 11
    assert Cache(tmp_path, max_bytes=0).get("a", 1, lambda: b"x") == b"x"
    assert held(tmp_path) == 0


def _fill(folder: Path, start: int) -> None:
    cache = Cache(folder, max_bytes=5000)
    for number in range(start, start + 200):
        size = 50 + number % 100
        content = bytes([number % 256]) * size
        assert cache.get(str(number), size, lambda content=content: content) == content
        with cache._locked():  # listing takes time: no other process may make room meanwhile
            assert held(folder) <= 5000


def test_many_processes_keep_the_bound(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(tmp_path, 100 * n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert 0 < held(tmp_path) <= 5000
    assert not list(tmp_path.glob("??/.*"))


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1000)
    cache.get("a", 100, lambda: bytes(100))
    left = next(tmp_path.glob("??")) / ".left"
    left.write_bytes(bytes(800))
    os.utime(left, (0, 0))
    (tmp_path / "bytes").write_text("")  # cut short as well
    cache.get("b", 200, lambda: bytes(200))
    assert not left.exists()
    assert held(tmp_path) == 300


def test_a_folder_that_cannot_be_written_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file", max_bytes=1000)
    with caplog.at_level(logging.WARNING):
        assert [cache.get(key, 1, lambda: b"x") for key in "ab"] == [b"x", b"x"]
    assert caplog.text.count("cannot be written") == 1
