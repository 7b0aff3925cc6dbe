"""Network of a few-shot cell: a stem, the cell several times, a linear layer.

For cells see `nascore.spaces.fewshot.space`.
"""

from typing import get_args

import torch
from torch import Tensor, nn

from nascore.spaces import ops
from nascore.spaces.base import ImageShape, Phase
from nascore.spaces.blocks import Cell, loose_ends
from nascore.spaces.cells import NUM_INPUTS
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig, FewShotOperation

OPS: tuple[str, ...] = get_args(FewShotOperation)


def outputs(cell: Cell, config: FewShotCellSpaceConfig) -> tuple[int, ...]:
    """Return the nodes that are the output of a cell; its inputs are nodes 0 and 1."""
    if config.skeleton == "pnas":
        return tuple(range(NUM_INPUTS + len(cell)))
    return tuple(node for node in loose_ends(cell) if node >= NUM_INPUTS)


class FewShotNetwork(nn.Module):
    """Stem, cells, ReLU, global average pooling (`pnas`), linear layer."""

    def __init__(
        self, cell: Cell, shape: ImageShape, config: FewShotCellSpaceConfig, phase: Phase
    ) -> None:
        super().__init__()
        is_final, pools = phase == "final", config.skeleton == "maml"
        channels = config.final_channels if is_final else config.search_channels
        stride = config.stem_stride
        stem = ops.conv(shape.channels, channels, 3, stride=1 if pools else stride)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(channels))
        if pools and stride > 1:
            self.stem.extend([nn.ReLU(), nn.MaxPool2d(stride)])
        size = shape.size // stride if pools else -(-shape.size // stride)
        self.pooled: set[int] = set()
        self.pool = nn.MaxPool2d(2)
        self.cells = nn.ModuleList()
        wide = channels * len(outputs(cell, config))
        older, newer = (channels, False), (channels, False)  # channels; is it one size larger
        for number in range(config.num_cells):
            halves = number % config.halve_every == config.halve_every - 1
            if halves and pools and size > 1:
                self.pooled.add(number)
                size //= 2
            reduces = halves and not pools
            if reduces:
                size = -(-size // 2)
            larger = (reduces or older[1], reduces)
            self.cells.append(FewShotCell(cell, (older[0], newer[0]), larger, channels, config))
            older, newer = (newer[0], reduces), (wide, False)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Identity() if pools else nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(wide * (size**2 if pools else 1), shape.num_classes),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        older_BCHW = newer_BCHW = self.stem(x_BCHW)
        for number, cell in enumerate(self.cells):
            older_BCHW, newer_BCHW = newer_BCHW, cell(older_BCHW, newer_BCHW)
            if number in self.pooled:
                older_BCHW, newer_BCHW = self.pool(older_BCHW), self.pool(newer_BCHW)
        logits_BK: Tensor = self.head(newer_BCHW)
        return logits_BK


class FewShotCell(nn.Module):
    """One cell of the stack; all its nodes have equal channels and size."""

    def __init__(
        self,
        cell: Cell,
        inputs: tuple[int, int],
        halves: tuple[bool, bool],
        channels: int,
        config: FewShotCellSpaceConfig,
    ) -> None:
        """
        Args:
            cell: its blocks.
            inputs: channels of the older and the newer input.
            halves: which of them are halved in height and width.
            channels: of each node.
            config: settings of the space.
        """
        super().__init__()
        self.read = tuple(node for block in cell for node, _ in block)
        self.given = outputs(cell, config)
        always = config.skeleton == "pnas"
        self.inputs = nn.ModuleList()
        for node, (given, half) in enumerate(zip(inputs, halves, strict=True)):
            if not always and node not in self.read:
                self.inputs.append(nn.Identity())
            elif half:
                self.inputs.append(ops.FactorisedReduction(given, channels))
            elif always or given != channels:
                self.inputs.append(ops.relu_conv_bn(given, channels, 1))
            else:
                self.inputs.append(nn.Identity())
        self.operations = nn.ModuleList(
            make_operation(OPS[operation], channels) for block in cell for _, operation in block
        )

    def forward(self, older_BCHW: Tensor, newer_BCHW: Tensor) -> Tensor:
        nodes = [self.inputs[0](older_BCHW), self.inputs[1](newer_BCHW)]
        for i in range(0, len(self.read), 2):
            left_BCHW = self.operations[i](nodes[self.read[i]])
            nodes.append(left_BCHW + self.operations[i + 1](nodes[self.read[i + 1]]))
        return torch.cat([nodes[node] for node in self.given], dim=1)


def make_operation(name: str, channels: int) -> nn.Module:
    """Return one of `OPS`; those with weights are ReLU, convolutions, batch norm."""
    match name:
        case "identity":
            return nn.Identity()
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case "max_pool_3x3":
            return nn.MaxPool2d(3, stride=1, padding=1)
        case "sep_conv_3x3" | "sep_conv_5x5" | "sep_conv_7x7":
            return ops.separable_twice(channels, int(name[-1]))
        case _:
            return nn.Sequential(
                nn.ReLU(), *_convolutions(name, channels), nn.BatchNorm2d(channels)
            )


def _convolutions(name: str, channels: int) -> list[nn.Module]:
    match name:
        case "conv_3x3":
            return [ops.conv(channels, channels, 3)]
        case "dil_conv_3x3":
            return [ops.conv(channels, channels, 3, dilation=2)]
        case "dil_sep_conv_3x3":
            depthwise = ops.conv(channels, channels, 3, dilation=2, groups=channels)
            return [depthwise, ops.conv(channels, channels, 1)]
        case "conv_1x5_5x1" | "conv_1x7_7x1":
            size = int(name[7])
            kernels = ((1, size), (size, 1))
            return [ops.conv(channels, channels, kernel) for kernel in kernels]
        case _:
            raise ValueError(f"no operation is called {name!r}")
