"""TrivialAugment and RandAugment on batches, with an own operation for each image.

TrivialAugment (arXiv 2103.10158) applies one random operation with a random strength to an image,
in its wide ranges; RandAugment (arXiv 1909.13719) applies two at one strength, 9 of 30. Operations
are those of the papers. Departures: images are translated by at most 0.45 of their size in both, as
32 pixels of TrivialAugment are the whole of a small image; rotated and sheared around the centre.

Operations work on all images of a batch that have the same one, so that small images cost little.
Random numbers depend on the number of images only.

B images, C channels, H = W pixels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as v2

_STRENGTHS = 31
_RAND_STRENGTH, _RAND_OPERATIONS = 9, 2
_TRANSLATION = 0.45  # of the size
_COLOURED = (1, 3)  # channels for which torchvision knows a grey image


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers of a batch, on the CPU, one column for each operation of an image.

    Attributes:
        operation_BN: place of the operation in `OPERATIONS`.
        strength_BN: fraction of the largest strength.
        sign_BN: 1 or -1, for operations with a direction.
    """

    operation_BN: Tensor
    strength_BN: Tensor
    sign_BN: Tensor


def draw(kind: Literal["trivial", "rand"], batch: int, generator: torch.Generator) -> Draws:
    """Return the random numbers of a batch."""
    size = (batch, 1 if kind == "trivial" else _RAND_OPERATIONS)
    operation_BN = torch.randint(len(OPERATIONS), size, generator=generator)
    place_BN = torch.randint(_STRENGTHS, size, generator=generator)
    sign_BN = 1 - 2 * torch.randint(2, size, generator=generator)
    if kind == "rand":
        place_BN = torch.full(size, _RAND_STRENGTH)
    return Draws(operation_BN, place_BN / (_STRENGTHS - 1), sign_BN)


def apply(x_u8: Tensor, draws: Draws, kind: Literal["trivial", "rand"]) -> Tensor:
    """Return a batch after its operations, uint8 (B, C, H, W); the given one is not changed."""
    x_u8 = x_u8.clone()
    strongest = _TRIVIAL if kind == "trivial" else _RAND
    for number in range(draws.operation_BN.shape[1]):
        for place, name in enumerate(OPERATIONS):
            rows = (draws.operation_BN[:, number] == place).nonzero().squeeze(1)
            if len(rows) == 0 or name == "identity":
                continue
            strength_b = draws.strength_BN[rows, number] * strongest.get(name, 0.0)
            if name in _WITH_DIRECTION:
                strength_b = strength_b * draws.sign_BN[rows, number]
            rows, strength_b = rows.to(x_u8.device), strength_b.to(x_u8.device)
            x_u8[rows] = OPERATIONS[name](x_u8[rows], strength_b)
    return x_u8


def _affine(entries: Callable[[Tensor], list[list[Tensor]]]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return an operation that moves pixels by a matrix (2, 3) for each image, without blending."""

    def operation(x_u8: Tensor, strength_B: Tensor) -> Tensor:
        rows = [torch.stack(row, 1) for row in entries(strength_B)]
        grid_BHW2 = F.affine_grid(torch.stack(rows, 1), list(x_u8.shape), align_corners=False)
        moved = F.grid_sample(x_u8.float(), grid_BHW2, mode="nearest", align_corners=False)
        return moved.to(torch.uint8)

    return operation


def _blend(other: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return an operation that moves an image away from another one, or towards it."""

    def operation(x_u8: Tensor, strength_B: Tensor) -> Tensor:
        factor = (1 + strength_B).view(-1, 1, 1, 1)
        blended = x_u8.float() * factor + other(x_u8).float() * (1 - factor)
        return blended.clamp_(0, 255).to(torch.uint8)

    return operation


def _by_channel(operation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return an operation for any number of channels; torchvision's take one or three."""
    return lambda x_u8: operation(x_u8.flatten(0, 1).unsqueeze(1)).view_as(x_u8)


def _grey(x_u8: Tensor) -> Tensor:
    return v2.adjust_saturation(x_u8, 0.0) if x_u8.shape[1] in _COLOURED else x_u8


def _flat(x_u8: Tensor) -> Tensor:
    if x_u8.shape[1] in _COLOURED:
        flat: Tensor = v2.adjust_contrast(x_u8, 0.0)
        return flat
    return x_u8.float().mean((1, 2, 3), keepdim=True)


def _posterize(x_u8: Tensor, strength_B: Tensor) -> Tensor:
    """Clear as many low bits as the strength says, rounded."""
    step_B = 2 ** strength_B.round().to(torch.int16)
    mask_B = (256 - step_B).to(torch.uint8)
    return x_u8 & mask_B.view(-1, 1, 1, 1)


def _solarize(x_u8: Tensor, strength_B: Tensor) -> Tensor:
    """Invert pixels of at least a threshold, which falls with the strength."""
    threshold_B = 255 * (1 - strength_B)
    return torch.where(x_u8.float() >= threshold_B.view(-1, 1, 1, 1), 255 - x_u8, x_u8)


def _one(like: Tensor) -> Tensor:
    return torch.ones_like(like)


def _none(like: Tensor) -> Tensor:
    return torch.zeros_like(like)


def _rotation(degrees_B: Tensor) -> list[list[Tensor]]:
    angle_B = degrees_B * (math.pi / 180)
    sin_B, cos_B = angle_B.sin(), angle_B.cos()
    return [[cos_B, -sin_B, _none(sin_B)], [sin_B, cos_B, _none(sin_B)]]


OPERATIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda x_u8, _: x_u8,
    "shear_x": _affine(lambda s: [[_one(s), s, _none(s)], [_none(s), _one(s), _none(s)]]),
    "shear_y": _affine(lambda s: [[_one(s), _none(s), _none(s)], [s, _one(s), _none(s)]]),
    # Coordinates of a grid go from -1 to 1, so that twice a share of the size is that share.
    "translate_x": _affine(lambda s: [[_one(s), _none(s), 2 * s], [_none(s), _one(s), _none(s)]]),
    "translate_y": _affine(lambda s: [[_one(s), _none(s), _none(s)], [_none(s), _one(s), 2 * s]]),
    "rotate": _affine(_rotation),
    "brightness": _blend(torch.zeros_like),
    "colour": _blend(_grey),
    "contrast": _blend(_flat),
    "sharpness": _blend(_by_channel(lambda x_u8: v2.adjust_sharpness(x_u8, 0.0))),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": lambda x_u8, _: _by_channel(v2.autocontrast)(x_u8),
    "equalize": lambda x_u8, _: _by_channel(v2.equalize)(x_u8),
}
"""Operations on images with a strength each: uint8 (B, C, H, W), (B,) -> uint8 (B, C, H, W)."""

_GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_WITH_DIRECTION = (*_GEOMETRIC, "brightness", "colour", "contrast", "sharpness")
_TRIVIAL = {
    **dict.fromkeys(("shear_x", "shear_y"), 0.99),
    **dict.fromkeys(("translate_x", "translate_y"), _TRANSLATION),
    "rotate": 135.0,
    **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), 0.99),
    "posterize": 6.0,
    "solarize": 1.0,
}
"""Largest strength of each operation, in degrees, shares of the size, bits, shares of 255."""
_RAND = {
    **_TRIVIAL,
    **dict.fromkeys(("shear_x", "shear_y"), 0.3),
    "rotate": 30.0,
    **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), 0.9),
    "posterize": 4.0,
}
