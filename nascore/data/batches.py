"""Batches made by whole-tensor operations on the device: no Python per image in the hot loop.

B images, C channels, H = W pixels. Images stay uint8 until a batch is made; a batch is augmented as
uint8, then normalised to float with the mean and deviation of the training split.

Order and augmentation are drawn in the main process, whoever decodes: in memory or streamed, and
with any number of workers, the same generator gives the same batches.
"""

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from nascore.data.archives import ArchiveFiles, is_archive_name
from nascore.data.decoding import decode_one
from nascore.data.files import S3, Entry, Files, LocalFiles, Remote
from nascore.data.parallel import in_threads
from nascore.data.pixels import PixelFormat
from nascore.data.raw import KEY
from nascore.data.store import DatasetInfo
from nascore.errors import InputError, OutsideError
from nascore.processors import num_cpus

_MIN_BATCH = 2  # batch norm has no variance over one image
_MAX_STREAM_WORKERS = 8


class Augmentation(Protocol):
    """The part of a training's settings that makes its batches; see `TrainingConfig`."""

    @property
    def batch_size(self) -> int: ...
    @property
    def crop_padding(self) -> int: ...
    @property
    def flip(self) -> bool: ...
    @property
    def cutout(self) -> int: ...


class Images(Protocol):
    """Uint8 images by position: from memory, or decoded from files."""

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        """One uint8 batch (B, C, H, W) on the device for each tensor of positions (B,)."""
        ...


class Split:
    """One of train, valid, test.

    Attributes:
        labels: int64 (N,), on the device.
        size: height and width in pixels.
    """

    def __init__(
        self, images: Images, labels: Tensor, *, info: DatasetInfo, device: torch.device
    ) -> None:
        self._images = images
        self.labels = labels.to(device)
        self.device = device
        self.num_images = len(labels)
        self.size = info.size
        self._scale_C11, self._shift_C11 = (part.to(device) for part in normalisation(info))

    def halves(self, generator: torch.Generator) -> tuple["Split", "Split"]:
        """The images at random in two parts of (nearly) equal size; nothing is copied."""
        order = torch.randperm(self.num_images, generator=generator)
        first, second = order.tensor_split(2)
        return self._part(first.sort().values), self._part(second.sort().values)

    def _part(self, positions: Tensor) -> "Split":
        part = copy.copy(self)
        part._images = _Part(self._images, positions)
        part.labels = self.labels[positions.to(self.device)]
        part.num_images = len(positions)
        return part

    def steps_per_epoch(self, config: Augmentation) -> int:
        """Batches that `train_batches` gives."""
        full, rest = divmod(self.num_images, config.batch_size)
        return max(1, full + (rest >= _MIN_BATCH))

    def train_batches(
        self, config: Augmentation, generator: torch.Generator, *, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in random order: augmented x (B, C, H, W) float and labels y (B,).

        The last batch may be smaller; it is left out when a single image remains.

        Args:
            config: batch size and augmentation.
            generator: on the CPU; decides order and augmentation, whatever the device.
            start: batches that are left out, unread; the others are as they would have been.
        """
        order = torch.randperm(self.num_images, generator=generator)
        steps = self.steps_per_epoch(config)
        positions = list(order.split(config.batch_size))[:steps]
        for position in positions[:start]:
            _augmented(torch.zeros(len(position), 1, self.size, self.size), config, generator)
        positions = positions[start:]
        for position, x_u8 in zip(positions, self._images.batches(positions), strict=True):
            x_BCHW = _augmented(x_u8, config, generator, self.normalise)
            yield x_BCHW, self.labels[position.to(self.device)]

    def random_batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`size` different images, or all when there are fewer; x (B, C, H, W), y (B,).

        Args:
            generator: on the CPU.
        """
        position = torch.randperm(self.num_images, generator=generator)[:size]
        (x_u8,) = self._images.batches([position])
        return self.normalise(x_u8), self.labels[position.to(self.device)]

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, without augmentation."""
        positions = list(torch.arange(self.num_images).split(batch_size))
        for position, x_u8 in zip(positions, self._images.batches(positions), strict=True):
            yield self.normalise(x_u8), self.labels[position.to(self.device)]

    def pixel_batches(self, batch_size: int, *, every: int = 1) -> Iterator[Tensor]:
        """All images in order as they are stored, or each `every`-th; uint8 (B, C, H, W)."""
        return self._images.batches(list(torch.arange(0, self.num_images, every).split(batch_size)))

    def pixels_at(self, positions: Sequence[int]) -> Tensor:
        """These images as they are stored, uint8 (N, C, H, W)."""
        return next(iter(self._images.batches([torch.tensor(positions)])))

    def normalise(self, x_u8: Tensor) -> Tensor:
        """(pixel / 255 - mean) / std, a channel at a time."""
        return x_u8.float().mul_(self._scale_C11).add_(self._shift_C11)


def normalisation(info: DatasetInfo) -> tuple[Tensor, Tensor]:
    """Scale and shift, (C, 1, 1) each: pixel * scale + shift = (pixel / 255 - mean) / std."""
    mean, std = torch.tensor(info.mean), torch.tensor(info.std)
    return (1 / (255 * std)).view(-1, 1, 1), (-mean / std).view(-1, 1, 1)


class _Part:
    """Some of the images, numbered anew."""

    def __init__(self, images: Images, positions: Tensor) -> None:
        self._images, self._positions = images, positions

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        return self._images.batches([self._positions[position] for position in positions])


@dataclass(frozen=True)
class Splits:
    """The three splits of a prepared data set, and what is known about it."""

    info: DatasetInfo
    train: Split
    valid: Split
    test: Split


def load(folder: Path, device: torch.device, remote: Remote | None = None) -> Splits:
    """Opens a folder that `nascore.data.store.prepare` wrote.

    Images in memory are mapped from the file and only a split's own are copied to the device.

    Args:
        remote: opens the files of a data set that is streamed from S3.

    Raises:
        InputError: from the batches of a streamed split: a file is away, damaged, or has changed.
    """
    info = DatasetInfo.load(folder)
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    opened: _Opened = _FileNames.read(folder, info, remote) if info.streamed else _mapped(folder)
    splits = {}
    with np.load(folder / "splits.npz") as indices:
        for name in ("train", "valid", "test"):
            index = indices[name]
            images: Images
            if isinstance(opened, _FileNames):
                images = StreamedImages(opened, index, info=info, device=device)
            else:
                images = ImagesInMemory(torch.from_numpy(opened[index]).to(device))
            splits[name] = Split(images, labels[torch.from_numpy(index)], info=info, device=device)
    return Splits(info, **splits)


class ImagesInMemory:
    """Uint8 (N, C, H, W) on the device."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        for position in positions:
            yield self._images.index_select(0, position.to(self._images.device))


# --- streamed from files --------------------------------------------------------------------


class _FileNames:
    """Many file names in two arrays.

    Worker processes share them with their parent; a list of strings would be copied into each
    worker, page by page, as its reference counts change.
    """

    def __init__(self, files: Files, text: bytes) -> None:
        self.files, self._text = files, text
        breaks = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        self._ends = np.append(breaks, len(text))

    @classmethod
    def read(cls, folder: Path, info: DatasetInfo, remote: Remote | None) -> "_FileNames":
        return cls(_open_root(info, remote), (folder / "files.txt").read_bytes())

    def __getitem__(self, index: int) -> Entry:
        start = 0 if index == 0 else int(self._ends[index - 1]) + 1
        line = os.fsdecode(self._text[start : int(self._ends[index])])
        name, _, version = line.partition("\t")
        return Entry(name, version)


def _open_root(info: DatasetInfo, remote: Remote | None) -> Files:
    """Where the files of a streamed data set lie: a folder, an archive or a prefix in S3."""
    assert info.root is not None
    if info.root.startswith(S3):
        if remote is None:
            raise InputError.of(KEY, info.source, "is streamed from S3; nobody here can read it")
        if is_archive_name(info.root):
            return ArchiveFiles(remote.file(info.root), root=info.root)
        return remote.folder(info.root)
    root = Path(info.root)
    return ArchiveFiles(root) if root.is_file() else LocalFiles(root)


_Opened = _FileNames | NDArray[np.uint8]


def _mapped(folder: Path) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="r")
    return images


class StreamedImages(Dataset[Tensor]):
    """Files that are decoded by worker processes while the network trains; memory stays bounded.

    Args:
        index: (N,), places of the split's images in `names`.
    """

    def __init__(
        self,
        names: _FileNames,
        index: NDArray[np.int64],
        *,
        info: DatasetInfo,
        device: torch.device,
    ) -> None:
        self._names, self._index, self._device = names, index, device
        self._source = info.source
        self._target = PixelFormat(info.size, info.channels, info.background)

    def __getitem__(self, position: int) -> Tensor:
        entry = self._names[int(self._index[position])]
        try:
            with self._names.files.open(entry) as file:
                image = decode_one(file, self._target)
        except OSError as error:
            message = f"{entry.name}: {error}; repair it"
            raise OutsideError.of(KEY, self._source, message) from error
        return torch.from_numpy(image.transpose(2, 0, 1).copy())

    def __getitems__(self, positions: list[int]) -> list[Tensor] | InputError:
        """A batch. An error is handed over: raised in a worker it would become a text."""
        threads = self._names.files.num_threads
        try:
            if threads == 1:
                return [self[position] for position in positions]
            return list(in_threads(self.__getitem__, positions, threads=threads))
        except InputError as error:
            return error

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        loader = DataLoader(
            self,
            batch_sampler=_Lists(positions),
            num_workers=_stream_workers(),
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


def _stream_workers() -> int:
    """Processes that decode: all cores that this process may use, within reason."""
    return min(num_cpus(), _MAX_STREAM_WORKERS)


class _Lists:
    """Tensors of positions as the lists of integers that a DataLoader wants, one at a time."""

    def __init__(self, positions: Sequence[Tensor]) -> None:
        self._positions = positions

    def __iter__(self) -> Iterator[list[int]]:
        for position in self._positions:
            yield position.tolist()

    def __len__(self) -> int:
        return len(self._positions)


# --- augmentation ---------------------------------------------------------------------------


def _augmented(
    x_u8: Tensor,
    config: Augmentation,
    generator: torch.Generator,
    normalise: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """What is drawn depends on the number and size of the images, not on what they show."""
    x_BCHW = normalise(augment(x_u8, config, generator))
    if config.cutout:
        cutout(x_BCHW, config.cutout, generator)
    return x_BCHW


def augment(x_u8: Tensor, config: Augmentation, generator: torch.Generator) -> Tensor:
    """Random crop after padding, and mirroring; uint8 (B, C, H, W) in and out, the input is kept.

    Padding is black, value 0 before normalisation, as torchvision's RandomCrop on raw images does.

    Args:
        generator: on the CPU; draws 2B offsets when `crop_padding` > 0, then B numbers when `flip`.
    """
    batch, _, _, width = x_u8.shape
    padding = config.crop_padding
    if padding:
        dy_B, dx_B = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator)
        x_u8 = _crop(F.pad(x_u8, (padding,) * 4), dy_B, dx_B, size=width)
    if config.flip:
        mirrored = (torch.rand(batch, generator=generator) < 0.5).nonzero().squeeze(1)
        mirrored = mirrored.to(x_u8.device)
        x_u8 = x_u8.index_copy(0, mirrored, x_u8.index_select(0, mirrored).flip(3))
    return x_u8


def _crop(padded_u8: Tensor, dy_B: Tensor, dx_B: Tensor, *, size: int) -> Tensor:
    """A square window of each image, with its upper left corner at (dy, dx).

    A row of a window is a run of bytes in memory. All possible runs are a view; one index
    operation copies the chosen ones, several times faster than an index for each pixel.
    """
    batch, channels, height, width = padded_u8.shape
    planes_BC1 = torch.arange(batch * channels).view(batch, channels, 1) * (height * width)
    rows_H = torch.arange(size) * width
    first_BCH = planes_BC1 + (dy_B * width + dx_B).view(-1, 1, 1) + rows_H
    runs = padded_u8.contiguous().view(-1).unfold(0, size, 1)
    chosen = runs.index_select(0, first_BCH.view(-1).to(padded_u8.device))
    return chosen.view(batch, channels, size, size)


def cutout(x_BCHW: Tensor, side: int, generator: torch.Generator) -> None:
    """Sets a square around a random pixel of each image to 0, the mean, in place (DeVries 2017).

    The square is cut off at the border, so the mean area is smaller than `side` squared.
    """
    batch, _, height, width = x_BCHW.shape
    device = x_BCHW.device
    y_B = torch.randint(0, height, (batch,), generator=generator).to(device) - side // 2
    x_B = torch.randint(0, width, (batch,), generator=generator).to(device) - side // 2
    rows_H, columns_W = torch.arange(height, device=device), torch.arange(width, device=device)
    kept_y_BH = (rows_H < y_B[:, None]) | (rows_H >= y_B[:, None] + side)
    kept_x_BW = (columns_W < x_B[:, None]) | (columns_W >= x_B[:, None] + side)
    x_BCHW.mul_((kept_y_BH[:, :, None] | kept_x_BW[:, None, :]).unsqueeze(1))
