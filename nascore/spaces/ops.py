"""Operations of networks; they keep height and width unless they have a stride.

Tensors are (B, C, H, W). Convolutions before a batch norm have no bias. Blocks start with their
activation (ReLU, convolution, batch norm), so that sums and concatenations are not activated.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Conv2d:
    """Make a convolution that keeps the size at stride 1; He-normal initial weights.

    Args:
        in_channels, out_channels: of the maps.
        kernel: odd size; height and width where they differ.
        stride, dilation, groups: as in `nn.Conv2d`.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    layer = nn.Conv2d(
        in_channels,
        out_channels,
        (height, width),
        stride=stride,
        padding=(dilation * (height // 2), dilation * (width // 2)),
        dilation=dilation,
        groups=groups,
        bias=False,
    )
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def relu_conv_bn(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1
) -> nn.Sequential:
    """Make ReLU, convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        conv(in_channels, out_channels, kernel, stride=stride),
        nn.BatchNorm2d(out_channels),
    )


def separable(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Make a depthwise k x k and a pointwise 1 x 1 convolution."""
    return nn.Sequential(
        conv(in_channels, in_channels, kernel, groups=in_channels),
        conv(in_channels, out_channels, 1),
    )


def conv_block(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Make NASES' convolution block: ReLU - 1x1 - BN - ReLU - k x k - BN."""
    return nn.Sequential(
        *relu_conv_bn(in_channels, out_channels, 1),
        *relu_conv_bn(out_channels, out_channels, kernel),
    )


def separable_block(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Make NASES' separable block: twice ReLU, separable 1x1, BN, ReLU, separable k x k, BN."""
    layers: list[nn.Module] = []
    channels = in_channels
    for size in (1, kernel, 1, kernel):
        layers += [nn.ReLU(), separable(channels, out_channels, size), nn.BatchNorm2d(out_channels)]
        channels = out_channels
    return nn.Sequential(*layers)


def separable_twice(channels: int, kernel: int) -> nn.Sequential:
    """Make the separable operation of NASNet and ENAS: twice ReLU - depthwise k x k - 1x1 - BN."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.ReLU(), separable(channels, channels, kernel), nn.BatchNorm2d(channels)]
    return nn.Sequential(*layers)


class FactorisedReduction(nn.Module):
    """Halves the map, rounding up, and reads all pixels: ReLU - two halves - BN.

    One half of the channels reads the pixels at even positions, the other those one to the right
    and below, each by a 1x1 convolution. Source: the released code of ENAS (arXiv 1802.03268).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.even = conv(in_channels, out_channels - half, 1, stride=2)
        self.odd = conv(in_channels, half, 1, stride=2)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW.relu()
        shifted_BCHW = F.pad(x_BCHW, (-1, 1, -1, 1))
        out: Tensor = self.norm(torch.cat([self.even(x_BCHW), self.odd(shifted_BCHW)], dim=1))
        return out


class Sum(nn.Module):
    """A residual connection: `body(x) + shortcut(x)`."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.body(x_BCHW) + self.shortcut(x_BCHW)
        return out


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside the block, and restore the mode of each module after it."""
    was_training = {module: module.training for module in network.modules()}
    try:
        network.eval()
        yield
    finally:
        for module, mode in was_training.items():
            module.training = mode
