"""Batches made by whole-tensor operations on the device, without a loop over images in Python.

B images, C channels, H = W pixels. Images stay uint8 until a batch is made; a batch is augmented as
uint8, then normalised to float with the mean and deviation of the training split.

Order and augmentation are drawn in the main process: in memory or streamed, and with any number of
workers, the same generator gives the same batches.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nascore.config import BalanceConfig
from nascore.data.augmentation import Augmentation as Augmentation
from nascore.data.augmentation import BatchSize as BatchSize
from nascore.data.augmentation import augment, cutout, skip
from nascore.data.balance import class_weights, random_order
from nascore.data.file_access import Remote
from nascore.data.images import Images, open_images
from nascore.data.prepared import DatasetInfo

_MIN_BATCH = 2  # batch norm has no variance over one image


class Split:
    """The training, validation or test images.

    Attributes:
        labels: int64 (N,), on the device.
        size: height and width in pixels.
        class_weights_K: weights in the loss, on the device; None for equal weights.
    """

    def __init__(
        self, images: Images, labels: Tensor, *, info: DatasetInfo, device: torch.device
    ) -> None:
        self._images = images
        self.labels = labels.to(device)
        self.device = device
        self.num_images = len(labels)
        self.size = info.size
        self.class_weights_K: Tensor | None = None
        self._balance, self._num_classes = BalanceConfig(), len(info.classes)
        self._scale_C11, self._shift_C11 = (part.to(device) for part in normalisation(info))

    def balanced(self, config: BalanceConfig) -> "Split":
        """Return the same images with the weights and sampling of a configuration."""
        split = copy.copy(self)
        split._balance = config
        if config.class_weights == "balanced":
            split.class_weights_K = class_weights(self.labels, self._num_classes)
        return split

    def halves(self, generator: torch.Generator) -> tuple["Split", "Split"]:
        """Return two random parts of (nearly) equal size, without copying images."""
        order = torch.randperm(self.num_images, generator=generator)
        first, second = order.tensor_split(2)
        return self._part(first.sort().values), self._part(second.sort().values)

    def _part(self, positions: Tensor) -> "Split":
        part = copy.copy(self)
        part._images = _Part(self._images, positions)
        part.labels = self.labels[positions.to(self.device)]
        part.num_images = len(positions)
        return part

    def steps_per_epoch(self, config: BatchSize) -> int:
        """Return the number of batches of `train_batches`."""
        full, rest = divmod(self.num_images, config.batch_size)
        return max(1, full + (rest >= _MIN_BATCH))

    def train_batches(
        self, config: Augmentation, generator: torch.Generator, *, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch in random order: augmented x (B, C, H, W) float and labels y (B,).

        The last batch may be smaller; it is left out when a single image remains.

        Args:
            config: batch size and augmentation.
            generator: on the CPU; draws order and augmentation, for every device alike.
            start: number of batches that are skipped without reading; the others do not change.
        """
        order = random_order(self.labels, self._balance, generator)
        steps = self.steps_per_epoch(config)
        positions = list(order.split(config.batch_size))[:steps]
        for position in positions[:start]:
            skip(len(position), self.size, config, generator)
        positions = positions[start:]
        for position, x_u8 in zip(positions, self._images.batches(positions), strict=True):
            x_BCHW = _augmented(x_u8, config, generator, self.normalise)
            yield x_BCHW, self.labels[position.to(self.device)]

    def random_batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `size` different images, or all when there are fewer; x (B, C, H, W), y (B,).

        Args:
            generator: on the CPU.
        """
        position = torch.randperm(self.num_images, generator=generator)[:size]
        (x_u8,) = self._images.batches([position])
        return self.normalise(x_u8), self.labels[position.to(self.device)]

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images in order, without augmentation."""
        positions = list(torch.arange(self.num_images).split(batch_size))
        for position, x_u8 in zip(positions, self._images.batches(positions), strict=True):
            yield self.normalise(x_u8), self.labels[position.to(self.device)]

    def pixel_batches(self, batch_size: int, *, every: int = 1) -> Iterator[Tensor]:
        """Yield all images in order, or each `every`-th, as stored: uint8 (B, C, H, W)."""
        return self._images.batches(list(torch.arange(0, self.num_images, every).split(batch_size)))

    def pixels_at(self, positions: Sequence[int]) -> Tensor:
        """Return images as stored, uint8 (N, C, H, W)."""
        return next(iter(self._images.batches([torch.tensor(positions)])))

    def normalise(self, x_u8: Tensor) -> Tensor:
        """Return (pixel / 255 - mean) / std by channel."""
        return x_u8.float().mul_(self._scale_C11).add_(self._shift_C11)


class Statistics(Protocol):
    """Mean and deviation of the training images by channel, of pixel / 255."""

    @property
    def mean(self) -> Sequence[float]: ...
    @property
    def std(self) -> Sequence[float]: ...


def normalisation(info: Statistics) -> tuple[Tensor, Tensor]:
    """Return scale and shift (C, 1, 1): pixel * scale + shift = (pixel / 255 - mean) / std."""
    mean, std = torch.tensor(info.mean), torch.tensor(info.std)
    return (1 / (255 * std)).view(-1, 1, 1), (-mean / std).view(-1, 1, 1)


class _Part:
    """A selection of images, with positions of its own."""

    def __init__(self, images: Images, positions: Tensor) -> None:
        self._images, self._positions = images, positions

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        """Return batches at positions of this selection."""
        return self._images.batches([self._positions[position] for position in positions])


@dataclass(frozen=True)
class Splits:
    """The three splits of a prepared data set, and its description."""

    info: DatasetInfo
    train: Split
    valid: Split
    test: Split


def load(folder: Path, device: torch.device, remote: Remote | None = None) -> Splits:
    """Open a folder that `nascore.data.prepared.prepare` wrote.

    Pixels are mapped from a file that all processes of this machine share; a GPU has a copy of
    what is no larger than `data.memory_limit_mb`.

    Args:
        remote: opens the files of a data set that is streamed from S3.

    Raises:
        InputError: Here, or from the batches of a streamed split: a file is missing or damaged, or
            has changed.
    """
    info = DatasetInfo.load(folder)
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    images_at = open_images(folder, info, device, remote)
    splits = {}
    with np.load(folder / "splits.npz") as indices:
        for name in ("train", "valid", "test"):
            index = indices[name]
            own = labels[torch.from_numpy(index)]
            splits[name] = Split(images_at(index), own, info=info, device=device)
    return Splits(info, **splits)


# --- augmentation ---------------------------------------------------------------------------


def _augmented(
    x_u8: Tensor,
    config: Augmentation,
    generator: torch.Generator,
    normalise: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return an augmented batch; random draws depend on the number and size of images alone."""
    x_BCHW = normalise(augment(x_u8, config, generator))
    if config.cutout:
        cutout(x_BCHW, config.cutout, generator)
    return x_BCHW
