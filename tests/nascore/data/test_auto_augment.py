"""TrivialAugment and RandAugment on batches, compared with torchvision's operations."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from nascore.config import TrainingConfig
from nascore.data import auto_augment
from nascore.data.augmentation import augment, skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(channels: int = 3) -> Tensor:
    """Smooth colours with some texture; noise alone would hide a shift of half a pixel."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    planes = [120 + 60 * torch.sin(rows / (2 + c)) + 60 * torch.cos(columns / (3 + c))
              for c in range(channels)]  # fmt: skip
    return torch.stack(planes).clamp(0, 255).to(torch.uint8).repeat(4, 1, 1, 1)


STRENGTHS = (0.0, 0.2, 0.5, 0.9)
ORACLES: dict[str, tuple[float, Callable[[Tensor, float], Tensor]]] = {
    "brightness": (1.0, lambda x, s: v2.adjust_brightness(x, 1 + s)),
    "colour": (1.0, lambda x, s: v2.adjust_saturation(x, 1 + s)),
    "contrast": (1.0, lambda x, s: v2.adjust_contrast(x, 1 + s)),
    "sharpness": (1.0, lambda x, s: v2.adjust_sharpness(x, 1 + s)),
    "posterize": (6.0, lambda x, s: v2.posterize(x, 8 - round(s))),
    "solarize": (1.0, lambda x, s: v2.solarize(x, 255 * (1 - s))),
    "translate_x": (0.45, lambda x, s: _affine(x, translate=[-s * 16, 0.0])),
    "translate_y": (0.45, lambda x, s: _affine(x, translate=[0.0, -s * 16])),
    "rotate": (135.0, lambda x, s: _affine(x, angle=-s)),
    "autocontrast": (0.0, lambda x, s: v2.autocontrast(x)),
    "equalize": (0.0, lambda x, s: v2.equalize(x)),
    "identity": (0.0, lambda x, s: x),
}


def _affine(x: Tensor, *, angle: float = 0.0, translate: list[float] | None = None) -> Tensor:
    return v2.affine(x, angle=angle, translate=translate or [0.0, 0.0], scale=1.0, shear=[0.0])


@pytest.mark.parametrize("name", ORACLES)
def test_each_image_has_the_strength_of_its_own(name: str) -> None:
    largest, oracle = ORACLES[name]
    x = images()
    # Translations by whole pixels: torchvision rounds half pixels in another direction.
    strengths = torch.tensor([0, 2 / 16, 4 / 16, 7 / 16]) if "translate" in name else (
        largest * torch.tensor(STRENGTHS)
    )  # fmt: skip
    found = auto_augment.OPERATIONS[name](x, strengths)
    wanted = torch.stack([oracle(x[i], float(strengths[i])) for i in range(4)])
    assert found.dtype == torch.uint8
    if name == "rotate":  # pixels whose source lies between two are taken from either
        assert (found != wanted).float().mean() < 0.1
    else:
        assert (found.int() - wanted.int()).abs().max() <= 1


def test_shear_moves_rows_by_their_distance_from_the_centre() -> None:
    x = images()[:1]
    found = auto_augment.OPERATIONS["shear_x"](x, torch.tensor([0.5]))
    # The centre is between rows 7 and 8; the first and the last row are 7.5 pixels away from it.
    assert torch.equal(found[..., 0, 4:], x[..., 0, :-4])
    assert torch.equal(found[..., 15, :-4], x[..., 15, 4:])
    assert torch.equal(found[..., 7:9, :], x[..., 7:9, :])


@pytest.mark.parametrize("kind", ["trivial", "rand"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_of_a_batch_have_different_operations(kind: str, channels: int) -> None:
    config = TrainingConfig(crop_padding=0, auto_augment=kind)
    x = images(channels).repeat(16, 1, 1, 1)
    before = x.clone()
    found = augment(x, config, generator())
    assert torch.equal(x, before)
    assert found.shape == x.shape
    assert found.dtype == torch.uint8
    assert len({tuple(image.flatten().tolist()) for image in found}) > 20
    assert torch.equal(found, augment(x, config, generator()))
    assert not torch.equal(found, augment(x, config, generator(1)))


def test_skipping_a_batch_draws_what_making_it_draws() -> None:
    config = TrainingConfig(crop_padding=2, flip=True, auto_augment="trivial", cutout=0)
    one, other = generator(), generator()
    augment(images(), config, one)
    skip(4, 16, config, other)
    assert torch.equal(one.get_state(), other.get_state())
