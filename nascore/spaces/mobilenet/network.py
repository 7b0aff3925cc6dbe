"""The networks of the MobileNetV2 space: their blocks and operations.

Weights have the memory format channels-last: depthwise convolutions, of which most of these
networks consist, then train in about two thirds of the time on a CPU.

B images, C channels, K classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from nascore.spaces import ops

OPS = ("k3e6", "k3e3", "k5e6", "k5e3", "basic")
"""Inverted residuals by kernel and expansion, then two 3x3 convolutions."""
INVERTED = {"k3e6": (3, 6), "k3e3": (3, 3), "k5e6": (5, 6), "k5e3": (5, 3)}
"""Kernel size and expansion of the inverted residuals."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """Shapes of a block: (B, in_channels, in_size, in_size) -> (B, out_channels, out_size, ...).

    Attributes:
        is_first: whether it is the first of its stage; then it cannot pass its input on.
    """

    index: int
    in_channels: int
    out_channels: int
    stride: int
    is_first: bool
    in_size: int
    out_size: int


class MobileNetwork(nn.Module):
    """One architecture, the same for all images: (B, C, H, W) -> logits (B, K)."""

    def __init__(self, stem: nn.Module, blocks: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stem(x_BCHW)
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        logits_BK: Tensor = self.head(x_BCHW)
        return logits_BK


class Block(nn.Module):
    """The sum or mean of some operations; the input if there is none."""

    def __init__(self, operations: Iterable[nn.Module], *, takes_mean: bool) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.takes_mean = takes_mean

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if len(self.operations) == 0:
            return x_BCHW
        out_BCHW: Tensor = reduce(torch.add, [module(x_BCHW) for module in self.operations])
        return out_BCHW / len(self.operations) if self.takes_mean else out_BCHW


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise k x k, project 1x1, plus the input if the shape is the same."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, expansion: int, stride: int
    ) -> None:
        super().__init__()
        inner = expansion * in_channels
        self.body = nn.Sequential(
            *_conv_bn(in_channels, inner, 1),
            nn.ReLU(),
            *_conv_bn(inner, inner, kernel, stride=stride, groups=inner),
            nn.ReLU(),
            *_conv_bn(inner, out_channels, 1),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out_BCHW: Tensor = self.body(x_BCHW)
        return out_BCHW + x_BCHW if self.has_shortcut else out_BCHW


def make_operation(operation: int, plan: BlockPlan) -> nn.Module:
    """Make an operation of a block, with initial weights."""
    name, given, wanted = OPS[operation], plan.in_channels, plan.out_channels
    if name in INVERTED:
        kernel, expansion = INVERTED[name]
        return _channels_last(
            InvertedResidual(given, wanted, kernel=kernel, expansion=expansion, stride=plan.stride)
        )
    return _channels_last(
        nn.Sequential(
            *_conv_bn(given, wanted, 3, stride=plan.stride),
            nn.ReLU(),
            *_conv_bn(wanted, wanted, 3),
            nn.ReLU6(),
        )
    )


def _conv_bn(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    return (
        ops.conv(in_channels, out_channels, kernel, stride=stride, groups=groups),
        nn.BatchNorm2d(out_channels),
    )


def make_stem(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Make the stem: 3x3 convolution, batch norm, ReLU."""
    return _channels_last(
        nn.Sequential(*_conv_bn(in_channels, channels, 3, stride=stride), nn.ReLU())
    )


def make_head(in_channels: int, channels: int, num_classes: int) -> nn.Module:
    """Make the head: 1x1 convolution, global average pooling, linear layer."""
    return _channels_last(
        nn.Sequential(
            *_conv_bn(in_channels, channels, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )
    )


def _channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)
