"""A folder of copies of objects with a bound on its size, for many processes at once."""

import contextlib
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

_log = logging.getLogger(__name__)

_COUNT = "bytes"  # what the files and those being written take together
_ROOM = 0.9  # emptied down to this share: looking at all files is not for every new one
_POLL_S = 0.005  # the lock is held for less than a millisecond
_ABANDONED_S = 3600  # a file that is still being written after this has lost its writer


class Cache:
    """Keeps copies; the least recently used ones are removed for new ones.

    A copy is written under another name and appears whole. A full or read-only disk costs a
    warning and speed, no run.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._has_warned = False

    def get(self, key: str, size: int, fetch: Callable[[], bytes]) -> bytes:
        """Return the content of `key`, which has `size` bytes, from a copy or by `fetch`."""
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self.folder / name[:2] / name
        content = self._read(path, size)
        if content is None:
            content = fetch()
            if len(content) <= self.max_bytes * _ROOM:
                self._keep(path, content)
        return content

    def _read(self, path: Path, size: int) -> bytes | None:
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:  # not there, or just made room for another
            return None
        return content if len(content) == size else None  # cut short when the machine went down

    def _keep(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._reserve(path, len(content))
            try:
                with open(temporary, "r+b") as file:  # not cut to nothing: its length counts
                    file.write(content)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            if not self._has_warned:
                _log.warning(
                    "the cache %s cannot be written (%s): images are fetched again each "
                    "time; free space or lower data.cache_mb",
                    self.folder,
                    error,
                )
            self._has_warned = True

    def _reserve(self, path: Path, size: int) -> Path:
        """Make an empty file of the right length, which counts already."""
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        count = self.folder / _COUNT
        with self._locked():
            used = self._used(count)
            if used + size > self.max_bytes:
                used = self._make_room(int(self.max_bytes * _ROOM) - size)
            with open(temporary, "wb") as file:
                file.truncate(size)
            count.write_text(str(used + size))
        return temporary

    def _locked(self) -> FileLock:
        return FileLock(self.folder / "lock", poll_interval=_POLL_S)

    def _used(self, count: Path) -> int:
        try:
            return int(count.read_text())
        except (OSError, ValueError):  # new, or cut short when the machine went down
            return sum(size for _, size, _ in self._files())

    def _make_room(self, allowed: int) -> int:
        """Remove the least recently used files; return the number of bytes in the others."""
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        now = time.time()
        for used_at, size, path in files:
            being_written = path.name.startswith(".") and now - used_at < _ABANDONED_S
            if used <= allowed:
                break
            if not being_written:
                path.unlink(missing_ok=True)
                used -= size
        return used

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for inner in self.folder.iterdir():
            if not inner.is_dir():
                continue
            for entry in os.scandir(inner):
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat()
                    yield found.st_mtime, found.st_size, Path(entry.path)
