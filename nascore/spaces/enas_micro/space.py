"""The micro search space of ENAS: a normal cell and a reduction cell, stacked into a network.

A cell reads the outputs of the two cells before it, nodes 0 and 1. Each of its blocks, nodes 2, 3,
..., adds two operations, each on an earlier node. The nodes that no block reads, the loose ends,
are joined by a 1x1 convolution of their concatenation: the cell's output. A genotype has four
tokens per block (input, operation, input, operation), the normal cell first. The network is a stem,
then three stages of normal cells with reduction cells between them, which halve the size and double
the channels, then ReLU, global average pooling and a linear layer.

Source: ENAS (arXiv 1802.03268) and its released code. As there, an operation has separate weights
for each cell of the stack, block, half and input. Departures: one network for search and final
training, where the release changes its reduction cells and omits the 1x1 in the end; both inputs of
a reduction cell are downsampled before it (in the search of the release the older one is the same
output downsampled twice); no auxiliary head, no path dropout.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial, reduce
from typing import get_args

import torch
from torch import Tensor, nn

from nascore.genotype import Genotype
from nascore.spaces import ops
from nascore.spaces.base import ArchitectureGraph, ImageShape, Phase, check, restriction
from nascore.spaces.blocks import SIDES, Cell, Half, draw_blocks, least_order, loose_ends
from nascore.spaces.cells import NUM_INPUTS, Labelled, draw_cell, draw_stack, label_cells
from nascore.spaces.dag import LabelledDag
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig, MicroOperation
from nascore.spaces.parts import Parts, below_name, fresh

OPS: tuple[str, ...] = get_args(MicroOperation)
CELLS = ("normal", "reduction")
_NUM_STAGES = 3
_STEM_WIDTH = 3  # channels of the stem, in those of the first cell
_SHORT = ("sep3", "sep5", "avg", "max", "id")
_DRAWN = (
    ("separable 3×3", "separable"),
    ("separable 5×5", "separable"),
    ("avg pool 3×3", "pool"),
    ("max pool 3×3", "pool"),
    ("identity", "skip"),
)


class EnasMicroSpace:
    """`SearchSpace` of pairs of cells; with five blocks 5^20 720^4 = 2.6 10^25 token strings."""

    def __init__(self, config: EnasMicroSpaceConfig) -> None:
        self.config = config
        self._allowed = tuple(OPS.index(name) for name in config.operations)
        self.identifier = f"enas-micro-{config.num_blocks}" + restriction(self._allowed, len(OPS))
        self.cardinalities = config.cardinalities

    def cells(self, genotype: Genotype) -> tuple[Cell, Cell]:
        """Return the normal and the reduction cell.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        check(self, genotype)
        operations = [self._allowed[token] for token in genotype.tokens[1::2]]
        halves = list(zip(genotype.tokens[0::2], operations, strict=True))
        blocks = tuple(zip(halves[0::2], halves[1::2], strict=True))
        return blocks[: len(blocks) // 2], blocks[len(blocks) // 2 :]

    def canonical(self, genotype: Genotype) -> str:
        """Return a key that does not depend on the order of blocks and of the halves of a block."""
        return "|".join(str(least_order(cell)) for cell in self.cells(genotype))

    def describe(self, genotype: Genotype) -> str:
        """Return text, `normal 2=sep3(0)+avg(1) 3=... | reduction ...`; 0 and 1 are inputs."""
        lines = []
        for name, cell in zip(CELLS, self.cells(genotype), strict=True):
            blocks = [
                f"{node}={_half_text(left)}+{_half_text(right)}"
                for node, (left, right) in enumerate(cell, start=NUM_INPUTS)
            ]
            lines.append(" ".join([name, *blocks]))
        return " | ".join(lines)

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        return self.assemble(genotype, shape, fresh, phase)

    def assemble(
        self, genotype: Genotype, shape: ImageShape, parts: Parts, phase: Phase = "search"
    ) -> nn.Module:
        """Build a network whose modules come from `parts`."""
        normal, reduction = self.cells(genotype)
        config = self.config
        channels, cells_per_stage = (
            (config.final_channels, config.final_cells_per_stage)
            if phase == "final"
            else (config.search_channels, config.search_cells_per_stage)
        )
        stem = Output(_STEM_WIDTH * channels, 0)
        network = MicroNetwork(parts("stem", partial(_stem, shape.channels, stem.channels)))
        older, newer = stem, stem
        for stage in range(_NUM_STAGES):
            output = Output(channels * 2**stage, stage)
            cells = ([] if stage == 0 else [reduction]) + [normal] * cells_per_stage
            for cell in cells:
                below = below_name(parts, f"cell{len(network.cells)}")
                network.cells.append(MicroCell(cell, (older, newer), output, below))
                older, newer = newer, output
        network.head = parts("head", partial(_head, newer.channels, shape.num_classes))
        return network

    def covering(self) -> Iterable[Genotype]:
        """Yield architectures with every operation on every input, and every node loose."""
        for operation in range(len(self._allowed)):
            for node in range(max(self.cardinalities[0::2])):
                inputs = [min(node, size - 1) for size in self.cardinalities[0::2]]
                tokens = [token for chosen in inputs for token in (chosen, operation)]
                yield Genotype(self.identifier, tuple(tokens))

    def dag(self, genotype: Genotype) -> LabelledDag:
        """Return the graph of both cells; see `label_cells`."""
        return label_cells(
            (
                [[Labelled(node, OPS[operation]) for node, operation in block] for block in cell],
                loose_ends(cell),
            )
            for cell in self.cells(genotype)
        )

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Return the drawing of the cells; the details say how they are stacked."""
        drawn = [
            draw_cell(
                draw_blocks(cell, _DRAWN),
                loose_ends(cell),
                output=("conv", "concatenated, 1×1"),
                name=name,
            )
            for name, cell in zip(CELLS, self.cells(genotype), strict=True)
        ]
        per_stage = self.config.final_cells_per_stage
        return draw_stack(
            drawn,
            image=f"{shape.size}×{shape.size}×{shape.channels}, 3×3 stem",
            classes=f"{_NUM_STAGES}×{per_stage} normal, {_NUM_STAGES - 1} reduction",
        )


# --- the network --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Output:
    """Shape of the output of a cell: its channels, and the number of halvings of the map."""

    channels: int
    halvings: int


class MicroNetwork(nn.Module):
    """A stack of cells that read the two before them: (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleList()
        self.head: nn.Module = nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        older_BCHW = newer_BCHW = self.stem(x_BCHW)
        for cell in self.cells:
            older_BCHW, newer_BCHW = newer_BCHW, cell(older_BCHW, newer_BCHW)
        logits_BK: Tensor = self.head(newer_BCHW)
        return logits_BK


class MicroCell(nn.Module):
    """One cell of the stack. All its nodes have the channels and the size of its output."""

    def __init__(
        self, cell: Cell, inputs: tuple[Output, Output], output: Output, parts: Parts = fresh
    ) -> None:
        super().__init__()
        channels = output.channels
        self.inputs = nn.ModuleList(
            [
                parts(f"input{i}", partial(_calibration, given, output))
                for i, given in enumerate(inputs)
            ]
        )
        self.read = tuple(node for block in cell for node, _ in block)
        self.operations = nn.ModuleList(
            [
                parts(
                    f"block{b}/{side}/input{node}/{OPS[operation]}",
                    partial(_operation, OPS[operation], channels),
                )
                for b, block in enumerate(cell)
                for side, (node, operation) in zip(SIDES, block, strict=True)
            ]
        )
        self.loose = loose_ends(cell)
        # A sum of 1x1 convolutions is the 1x1 convolution of the concatenation.
        self.joints = nn.ModuleList(
            [parts(f"joint{node}", partial(ops.conv, channels, channels, 1)) for node in self.loose]
        )
        self.norm = parts("norm", partial(nn.BatchNorm2d, channels))

    def forward(self, older_BCHW: Tensor, newer_BCHW: Tensor) -> Tensor:
        nodes = [self.inputs[0](older_BCHW), self.inputs[1](newer_BCHW)]
        for i in range(0, len(self.read), 2):
            left_BCHW = self.operations[i](nodes[self.read[i]])
            nodes.append(left_BCHW + self.operations[i + 1](nodes[self.read[i + 1]]))
        terms = [
            joint(nodes[node].relu()) for joint, node in zip(self.joints, self.loose, strict=True)
        ]
        out: Tensor = self.norm(reduce(torch.add, terms))
        return out


def _stem(in_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(ops.conv(in_channels, channels, 3), nn.BatchNorm2d(channels))


def _head(channels: int, num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )


def _calibration(given: Output, wanted: Output) -> nn.Module:
    """Make the module that brings an input of a cell to the shape of its nodes."""
    if given.halvings < wanted.halvings:
        return ops.FactorisedReduction(given.channels, wanted.channels)
    if given.channels != wanted.channels:
        return ops.relu_conv_bn(given.channels, wanted.channels, 1)
    return nn.Identity()


def _operation(name: str, channels: int) -> nn.Module:
    if name == "identity":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    return ops.separable_twice(channels, 3 if name == "sep_conv_3x3" else 5)


# --- text ---------------------------------------------------------------------------------------


def _half_text(half: Half) -> str:
    node, operation = half
    return f"{_SHORT[operation]}({node})"
