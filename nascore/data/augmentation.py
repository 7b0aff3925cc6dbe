"""Augmentation of whole batches by tensor operations: crops, mirroring, operations, cutout.

B images, C channels, H = W pixels. Random numbers depend on number and size of the images only.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class BatchSize(Protocol):
    """The setting of a training by which its images are divided into batches."""

    @property
    def batch_size(self) -> int: ...


class Augmentation(BatchSize, Protocol):
    """The settings of a training by which its batches are made; see `TrainingConfig`."""

    @property
    def crop_padding(self) -> int: ...
    @property
    def flip(self) -> bool: ...
    @property
    def cutout(self) -> int: ...
    @property
    def auto_augment(self) -> Literal["none", "trivial", "rand"]: ...


def augment(x_u8: Tensor, config: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop images at random places after padding, mirror half of them, apply random operations.

    Padding is black, value 0 before normalisation, as in torchvision's RandomCrop on raw images.

    Args:
        x_u8: uint8 (B, C, H, W); it is not changed.
        generator: on the CPU; draws 2B offsets if `crop_padding` > 0, then B numbers if `flip`,
            then those of `auto_augment`.

    Returns:
        uint8 (B, C, H, W).
    """
    draws = _draw(len(x_u8), config, generator)
    padding = config.crop_padding
    if draws.offsets_2B is not None:
        dy_B, dx_B = draws.offsets_2B
        x_u8 = _crop(F.pad(x_u8, (padding,) * 4), dy_B, dx_B, size=x_u8.shape[3])
    if draws.mirrored is not None:
        mirrored = draws.mirrored.to(x_u8.device)
        x_u8 = x_u8.index_copy(0, mirrored, x_u8.index_select(0, mirrored).flip(3))
    if config.auto_augment != "none":
        from nascore.data import auto_augment  # imports torchvision, which most trainings need not

        x_u8 = auto_augment.apply(x_u8, draws.operations, config.auto_augment)
    return x_u8


def skip(batch: int, size: int, config: Augmentation, generator: torch.Generator) -> None:
    """Draw the random numbers of a batch, those of `cutout` included, and make no images.

    Args:
        batch: number of images.
        size: height and width in pixels.
        config: settings of the augmentation.
        generator: on the CPU.
    """
    _draw(batch, config, generator)
    if config.cutout:
        _centres(batch, size, size, generator)


@dataclass(frozen=True, slots=True)
class _Draws:
    """Random numbers of a batch; None where a setting is off.

    Attributes:
        mirrored: places of the images that are mirrored.
        operations: `nascore.data.auto_augment.Draws`.
    """

    offsets_2B: Tensor | None
    mirrored: Tensor | None
    operations: Any


def _draw(batch: int, config: Augmentation, generator: torch.Generator) -> _Draws:
    offsets_2B = mirrored = operations = None
    if config.crop_padding:
        number = 2 * config.crop_padding + 1
        offsets_2B = torch.randint(0, number, (2, batch), generator=generator)
    if config.flip:
        mirrored = (torch.rand(batch, generator=generator) < 0.5).nonzero().squeeze(1)
    if config.auto_augment != "none":
        from nascore.data import auto_augment  # imports torchvision, which most trainings need not

        operations = auto_augment.draw(config.auto_augment, batch, generator)
    return _Draws(offsets_2B, mirrored, operations)


def _crop(padded_u8: Tensor, dy_B: Tensor, dx_B: Tensor, *, size: int) -> Tensor:
    """Return a square window of each image, with its upper left corner at (dy, dx).

    A row of a window is contiguous in memory. All possible rows are a view; one index operation
    copies the chosen ones, several times faster than an index for each pixel.
    """
    batch, channels, height, width = padded_u8.shape
    planes_BC1 = torch.arange(batch * channels).view(batch, channels, 1) * (height * width)
    rows_H = torch.arange(size) * width
    first_BCH = planes_BC1 + (dy_B * width + dx_B).view(-1, 1, 1) + rows_H
    runs = padded_u8.contiguous().view(-1).unfold(0, size, 1)
    chosen = runs.index_select(0, first_BCH.view(-1).to(padded_u8.device))
    return chosen.view(batch, channels, size, size)


def cutout(x_BCHW: Tensor, side: int, generator: torch.Generator) -> None:
    """Set a square around a random pixel of each image to 0, the mean, in place (DeVries 2017).

    The square is clipped at the border, so the mean area is smaller than `side` squared.
    """
    batch, _, height, width = x_BCHW.shape
    device = x_BCHW.device
    centre_y_B, centre_x_B = _centres(batch, height, width, generator)
    y_B, x_B = centre_y_B.to(device) - side // 2, centre_x_B.to(device) - side // 2
    rows_H, columns_W = torch.arange(height, device=device), torch.arange(width, device=device)
    kept_y_BH = (rows_H < y_B[:, None]) | (rows_H >= y_B[:, None] + side)
    kept_x_BW = (columns_W < x_B[:, None]) | (columns_W >= x_B[:, None] + side)
    x_BCHW.mul_((kept_y_BH[:, :, None] | kept_x_BW[:, None, :]).unsqueeze(1))


def _centres(
    batch: int, height: int, width: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    y_B = torch.randint(0, height, (batch,), generator=generator)
    return y_B, torch.randint(0, width, (batch,), generator=generator)
