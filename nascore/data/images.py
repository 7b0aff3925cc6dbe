"""Pixels of a split: in device memory, from a mapped file, or decoded from files.

B images, C channels, H = W pixels, uint8 throughout.
"""

import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nascore.config import DataConfig
from nascore.data.archives import ArchiveFiles, is_archive_name
from nascore.data.cache import DecodedCache, cache_folder, cache_key
from nascore.data.decoding import decode_blocks, decode_one
from nascore.data.file_access import S3, FileEntry, Files, LocalFiles, Remote
from nascore.data.findings import KEY, Findings
from nascore.data.parallel import in_threads
from nascore.data.pixels import PixelFormat
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError, ResourceUnavailable
from nascore.processors import num_cpus

_MAX_STREAM_WORKERS = 8
_AHEAD = 2  # batches that a worker process prepares
_SHARED = Path("/dev/shm")  # in which they are passed
_log = logging.getLogger(__name__)


class Images(Protocol):
    """Uint8 images by position."""

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield a uint8 batch (B, C, H, W) on the device for each tensor of positions (B,)."""
        ...


class ImagesInMemory:
    """Uint8 (N, C, H, W) on the device."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield a batch for each tensor of positions."""
        for position in positions:
            yield self._images.index_select(0, position.to(self._images.device))


class MappedImages:
    """Uint8 (N, C, H, W) in a file that all processes of a machine share.

    Args:
        index: (N,), places of the split's images in the file.
    """

    def __init__(
        self, images: NDArray[np.uint8], index: NDArray[np.int64], device: torch.device
    ) -> None:
        self._images, self._index, self._device = images, index, device

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield a batch for each tensor of positions."""
        for position in positions:
            chosen = np.take(self._images, self._index[position.numpy()], axis=0)
            yield torch.from_numpy(np.asarray(chosen)).to(self._device)


def open_images(
    folder: Path, info: DatasetInfo, device: torch.device, remote: Remote | None
) -> Callable[[NDArray[np.int64]], Images]:
    """Return a function from positions in a prepared data set to their pixels.

    Args:
        remote: opens the files of a data set that is streamed from S3.

    Raises:
        InputError: A file is missing or damaged, or has changed.
    """
    if info.streamed:
        names = FileNames(_open_root(info, remote), (folder / "files.txt").read_bytes())
        decoded = _open_decoded(names, info)
        if decoded is None:
            return lambda index: StreamedImages(names, index, info=info, device=device)
        return lambda index: MappedImages(decoded, index, device)
    images: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="r")
    if device.type == "cpu":
        return lambda index: MappedImages(images, index, device)
    return lambda index: ImagesInMemory(torch.from_numpy(images[index]).to(device))


def _open_decoded(names: "FileNames", info: DatasetInfo) -> NDArray[np.uint8] | None:
    """Return all images from the cache, decoded first where it lacks them; None where it has no
    room.
    """
    if not info.decoded_cache_mb:
        return None
    cache = DecodedCache(cache_folder(), info.decoded_cache_mb * 2**20)
    target = PixelFormat(info.size, info.channels, info.background)
    key = cache_key(names.files.root, names.lines(), target)
    shape = (len(names), info.channels, info.size, info.size)
    if key is None or not cache.has_room(shape):
        return None
    found = cache.open(key, shape)
    if found is None:
        findings = Findings()
        config = DataConfig(source=info.source)
        for _ in decode_blocks(
            names.files, names, target, config=config, findings=findings, cache=cache
        ):
            pass
        if findings.problems:
            raise ResourceUnavailable(findings.problems)
        found = cache.open(key, shape)
    return None if found is None else found[0]


# --- streamed from files --------------------------------------------------------------------


class FileNames(Sequence[FileEntry]):
    """Many file names in two arrays.

    Worker processes share them with their parent; a list of strings would be copied into each
    worker, page by page, as its reference counts change.
    """

    def __init__(self, files: Files, text: bytes) -> None:
        self.files, self._text = files, text
        breaks = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        self._ends = np.append(breaks, len(text))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> FileEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FileEntry]: ...
    def __getitem__(self, index: int | slice) -> FileEntry | Sequence[FileEntry]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        name, _, version = os.fsdecode(self._line(index)).partition("\t")
        return FileEntry(name, version)

    def lines(self) -> Iterator[bytes]:
        """Return the names as bytes, each with its version."""
        return map(self._line, range(len(self)))

    def _line(self, index: int) -> bytes:
        start = 0 if index == 0 else int(self._ends[index - 1]) + 1
        return self._text[start : int(self._ends[index])]


def _open_root(info: DatasetInfo, remote: Remote | None) -> Files:
    """Return the files of a streamed data set: of a folder, an archive or a prefix in S3."""
    assert info.root is not None
    if info.root.startswith(S3):
        if remote is None:
            raise InputError.of(
                KEY, info.source, "is streamed from S3, which this program cannot read"
            )
        if is_archive_name(info.root):
            return ArchiveFiles(remote.file(info.root), root=info.root)
        return remote.folder(info.root)
    root = Path(info.root)
    return ArchiveFiles(root) if root.is_file() else LocalFiles(root)


class StreamedImages(Dataset[Tensor]):
    """Files that worker processes decode while the network trains, in bounded memory.

    Where shared memory holds no batches, threads of this process decode them.

    Args:
        index: (N,), places of the split's images in `names`.
    """

    def __init__(
        self,
        names: FileNames,
        index: NDArray[np.int64],
        *,
        info: DatasetInfo,
        device: torch.device,
    ) -> None:
        self._names, self._index, self._device = names, index, device
        self._source, self._threads = info.source, names.files.num_threads
        self._target = PixelFormat(info.size, info.channels, info.background)

    def __getitem__(self, position: int) -> Tensor:
        entry = self._names[int(self._index[position])]
        try:
            with self._names.files.open(entry) as file:
                image = decode_one(file, self._target)
        except OSError as error:
            message = f"{entry.name}: {error}; repair it"
            raise ResourceUnavailable.of(KEY, self._source, message) from error
        return torch.from_numpy(image.transpose(2, 0, 1).copy())

    def __getitems__(self, positions: list[int]) -> list[Tensor] | InputError:
        """Return a batch, or its error: one that is raised in a worker becomes text."""
        try:
            if self._threads == 1:
                return [self[position] for position in positions]
            return list(in_threads(self.__getitem__, positions, threads=self._threads))
        except InputError as error:
            return error

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield a batch for each tensor of positions, decoded by worker processes."""
        most = max((len(position) for position in positions), default=0)
        image_bytes = self._target.channels * self._target.size**2
        workers = _num_that_fit(stream_workers(), most * image_bytes)
        if workers == 0:
            self._threads = max(self._threads, num_cpus())
        loader = DataLoader(
            self,
            batch_sampler=_Lists(positions),
            num_workers=workers,
            prefetch_factor=_AHEAD if workers else None,
            collate_fn=_stacked,
            pin_memory=self._device.type == "cuda",
            # Workers draw nothing; without this the loader would use up the global generator.
            generator=torch.Generator().manual_seed(0),
        )
        for x_u8 in loader:
            if isinstance(x_u8, InputError):
                raise x_u8
            yield x_u8.to(self._device, non_blocking=True)


def _stacked(images: list[Tensor] | InputError) -> Tensor | InputError:
    return images if isinstance(images, InputError) else torch.stack(images)


def stream_workers() -> int:
    """Return the number of processes that decode: all cores of this process, up to a limit."""
    return min(num_cpus(), _MAX_STREAM_WORKERS)


def _num_that_fit(workers: int, batch_bytes: int) -> int:
    """Return how many of the worker processes can pass their batches in shared memory.

    A worker that finds no room there waits for ever, as does the training. Containers have 64 MB.
    """
    if not workers or not _SHARED.is_dir():
        return workers
    room = shutil.disk_usage(_SHARED).free // 2  # the rest is for other processes
    in_training = 2
    fitting = max(0, room // max(1, batch_bytes) - in_training) // _AHEAD
    if fitting < workers:
        _warn_of_room(workers)
    return min(workers, fitting)


@functools.cache  # once a process, and not in each epoch
def _warn_of_room(workers: int) -> None:
    _log.warning(
        "%s has no room for the batches of the %d processes that decode images, so that fewer do, "
        "or threads; make it larger (cluster.shared_memory, or --shm-size of the container)",
        *(_SHARED, workers),
    )


class _Lists:
    """Tensors of positions as the lists of integers that a DataLoader needs, one at a time."""

    def __init__(self, positions: Sequence[Tensor]) -> None:
        self._positions = positions

    def __iter__(self) -> Iterator[list[int]]:
        for position in self._positions:
            yield position.tolist()

    def __len__(self) -> int:
        return len(self._positions)
