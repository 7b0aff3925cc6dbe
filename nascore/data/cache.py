"""Cache of decoded images for data sets larger than memory, in files that any process can map.

The name of an entry is the digest of the files with their versions and of the target size, channels
and background. It contains `images.npy`, uint8 (N, C, H, W), and `entry.json` with a checksum for
each few megabytes. An entry is written under another name and renamed when it is complete. Of
several processes that need an entry one writes it, and the others wait.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from nascore.data.mapped import release
from nascore.data.pixels import PixelFormat

_log = logging.getLogger(__name__)
_VERSION = 1  # raise it when files are decoded to other pixels
_BLOCK_BYTES = 4 * 2**20
_CHECKED_BLOCKS = 16  # when an entry is opened; reading all would take as long as training
_SPARE_BYTES = 2**30  # stay free on the disk
_PIXELS, _NOTE = "images.npy", "entry.json"


def cache_folder() -> Path:
    """Return the folder of decoded images: in `NAS_CACHE_DIR`, else in the user's cache folder."""
    given = os.environ.get("NAS_CACHE_DIR")
    caches = os.environ.get("XDG_CACHE_HOME")
    return (
        Path(given).expanduser() / "decoded"
        if given
        else (Path(caches) if caches else Path.home() / ".cache") / "nas" / "decoded"
    )


def cache_key(root: str, lines: Iterator[bytes], target: PixelFormat) -> str | None:
    """Return the digest of the files and of their target format; None where a file has no version.

    Args:
        lines: name, tab and version of each file in order.
    """
    settings = [_VERSION, PIL.__version__, root, target.size, target.channels, target.background]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for line in lines:
        if b"\t" not in line:
            return None
        digest.update(line + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DecodedCache:
    """Entries in one folder; the least recently used are removed for new ones.

    Attributes:
        max_bytes: limit of the size of all entries.
    """

    folder: Path
    max_bytes: int

    def open(
        self, key: str, shape: Sequence[int], *, whole: bool = False
    ) -> tuple[NDArray[np.uint8], list[dict[str, Any]]] | None:
        """Return the mapped pixels (N, C, H, W) and their remarks; None where there is no entry.

        Args:
            whole: compare all checksums, and not only some.
        """
        entry = self.folder / key
        try:
            note = json.loads((entry / _NOTE).read_text())
            images: NDArray[np.uint8] = np.load(entry / _PIXELS, mmap_mode="r")
            os.utime(entry)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._remove(entry, str(error))
            return None
        if images.shape != tuple(shape) or not _is_sound(images, note["checksums"], whole=whole):
            self._remove(entry, "its content is not what was written")
            return None
        return images, note["remarks"]

    def _remove(self, entry: Path, reason: str) -> None:
        _log.warning("decoded images in %s are damaged (%s): they are made again", entry, reason)
        shutil.rmtree(entry, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[bool]:
        """Lock an entry for one process at a time; yield whether the folder can be used.

        Unfinished entries of earlier processes are removed.
        """
        with contextlib.ExitStack() as opened:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = opened.enter_context(open(self.folder / f"{key}.lock", "a"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                for left in self.folder.glob(f".{key}.*"):
                    shutil.rmtree(left)
            except OSError as error:  # a full or read-only disk costs speed, no run
                _log.warning("decoded images cannot be kept in %s (%s)", self.folder, error)
                yield False
                return
            try:
                yield True
            finally:
                # A process that we have started may have the file open for a moment longer.
                fcntl.flock(lock, fcntl.LOCK_UN)

    def has_room(self, shape: Sequence[int]) -> bool:
        """Return whether images of this shape fit into the cache."""
        return math.prod(shape) <= self.max_bytes

    def writer(self, key: str, shape: Sequence[int]) -> "Writer | None":
        """Return the writer of a new entry, within `locked`; None where there is no room."""
        needed = math.prod(shape)
        if not self.has_room(shape):
            return None
        self._make_room(needed)
        free = shutil.disk_usage(self.folder).free
        if free < needed + _SPARE_BYTES:
            _log.warning(
                "the disk of %s has %d MB free, and decoded images need %d MB: they are not kept",
                self.folder,
                free // 2**20,
                (needed + _SPARE_BYTES) // 2**20,
            )
            return None
        return Writer(self.folder, key, shape)

    def _make_room(self, needed: int) -> None:
        entries = []
        for entry in self.folder.iterdir():
            with contextlib.suppress(OSError):  # another process has just removed it
                if entry.is_dir():
                    size = (entry / _PIXELS).stat().st_size
                    entries.append((entry.stat().st_mtime, size, entry))
        used = sum(size for _, size, _ in entries)
        for _, size, entry in sorted(entries):
            if used + needed <= self.max_bytes:
                break
            if not entry.name.startswith("."):  # those are being written
                # Who has mapped the file keeps it until the mapping ends.
                shutil.rmtree(entry, ignore_errors=True)
                used -= size


class Writer:
    """Writer of an entry, some images at a time; see `DecodedCache.writer`.

    As a context manager it removes an unfinished entry. A full disk causes a warning and costs
    speed, but stops no run.
    """

    def __init__(self, folder: Path, key: str, shape: Sequence[int]) -> None:
        self._target = folder / key
        self._folder = folder / f".{key}.{uuid.uuid4().hex[:8]}"
        self._folder.mkdir()
        self._shape = tuple(shape)
        self._block = _images_in_block(shape)
        self._waiting: list[NDArray[np.uint8]] = []
        self._checksums: list[int] = []
        self._written = 0
        self._has_failed = False
        self._file = open(self._folder / _PIXELS, "wb")  # noqa: SIM115 (closed by __exit__)
        header = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what a full disk did not take before
            self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, images: NDArray[np.uint8]) -> None:
        """Append uint8 (n, H, W, C)."""
        self._waiting.append(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        if sum(map(len, self._waiting)) >= self._block:
            self._flush(whole_blocks=True)

    def finish(self, remarks: Sequence[dict[str, Any]]) -> None:
        """Let the entry appear, if all images were added.

        Args:
            remarks: what `DecodedCache.open` returns with the pixels.
        """
        self._flush(whole_blocks=False)
        if self._has_failed or self._written != self._shape[0]:
            return
        note = {"checksums": self._checksums, "remarks": list(remarks)}
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            (self._folder / _NOTE).write_text(json.dumps(note))
            os.replace(self._folder, self._target)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        _log.warning("decoded images cannot be kept in %s (%s)", self._target, error)
        self._has_failed = True

    def _flush(self, *, whole_blocks: bool) -> None:
        if not self._waiting:
            return
        images = np.concatenate(self._waiting)
        count = len(images) - len(images) % self._block if whole_blocks else len(images)
        try:
            for start in range(0, 0 if self._has_failed else count, self._block):
                content = images[start : min(start + self._block, count)]
                self._checksums.append(zlib.crc32(content.data))
                self._file.write(content.data)
        except OSError as error:
            self._failed(error)
        self._written += count
        self._waiting = [images[count:]] if count < len(images) else []


def _images_in_block(shape: Sequence[int]) -> int:
    return max(1, _BLOCK_BYTES // max(1, math.prod(shape[1:])))


def _is_sound(images: NDArray[np.uint8], checksums: Sequence[int], *, whole: bool) -> bool:
    block = _images_in_block(images.shape)
    if len(checksums) != -(-len(images) // block):
        return False
    count = len(checksums) if whole else min(len(checksums), _CHECKED_BLOCKS)
    numbers = np.linspace(0, len(checksums) - 1, count).astype(int).tolist()
    for number in numbers:
        content = np.ascontiguousarray(images[number * block : (number + 1) * block])
        if zlib.crc32(content.data) != checksums[number]:
            return False
        release(images)
    return True
