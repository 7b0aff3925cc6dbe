"""Plain training loops that the training loop is compared with, and the networks that they train.

Each loop is a function that trains for a number of steps; see `nascore.throughput.measurement`.
"""

from collections.abc import Callable, Iterator

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from nascore.processors import num_cpus
from nascore.spaces.base import ImageShape
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace

Steps = Callable[[int], None]
"""Trains for this many weight updates."""

SHAPE = ImageShape(channels=3, size=32, num_classes=10)
_MAX_LOADERS = 16  # processes of torchvision's reference script


def residual_network() -> nn.Module:
    """Return the standard network of the space `residual`."""
    space = ResidualSpace(ResidualSpaceConfig())
    return space.build(space.standard, SHAPE)


def resnet18() -> nn.Module:
    """Return torchvision's ResNet-18 with a stem for small images: 3x3, stride 1, no pooling."""
    network: nn.Module = torchvision.models.resnet18(num_classes=SHAPE.num_classes)
    network.conv1 = nn.Conv2d(SHAPE.channels, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": residual_network,
    "resnet18": resnet18,
}
"""Networks that the loops train, with initial weights."""


def bare_loop(network: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> Steps:
    """Return forward pass, backward pass and update on one batch in memory, and nothing else."""
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
    )

    def steps(count: int) -> None:
        network.train()
        for _ in range(count):
            loss = F.cross_entropy(network(x_BCHW), y_B)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return steps


def torchvision_loop(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Steps:
    """Return the default recipe of torchvision's reference script for classification.

    A loader with one process a CPU applies random resized crops, mirroring and normalisation to
    PIL images; SGD with momentum 0.9, weight decay 1e-4, rate 0.1. Files are not decoded.

    Args:
        network: on the device of the training.
        images: uint8 (N, C, H, W) on the CPU.
        labels: int64 (N,).
        batch_size: images of one update.
    """
    device = next(network.parameters()).device
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    batches: list[list[int]] = []
    loader = DataLoader(
        _Pictures(images, labels),
        batch_sampler=batches,
        num_workers=min(_MAX_LOADERS, num_cpus()),
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )

    def steps(count: int) -> None:
        network.train()
        batches[:] = _positions(len(labels), batch_size, count)
        for x_BCHW, y_B in loader:
            x_BCHW = x_BCHW.to(device, non_blocking=True)
            loss = F.cross_entropy(network(x_BCHW), y_B.to(device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def _positions(num_images: int, batch_size: int, count: int) -> list[list[int]]:
    """Return random positions of images for `count` batches."""

    def shuffled() -> Iterator[int]:
        while True:
            yield from torch.randperm(num_images).tolist()

    order = shuffled()
    return [[next(order) for _ in range(batch_size)] for _ in range(count)]


class _Pictures(Dataset[tuple[Tensor, int]]):
    """PIL images with the transforms of torchvision's reference script."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        self._pictures = [Image.fromarray(array) for array in arrays]
        self._labels: list[int] = labels.tolist()
        self._transform = v2.Compose(
            [
                v2.RandomResizedCrop(images.shape[-1], antialias=True),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float, scale=True),
                v2.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._pictures[index]), self._labels[index]
