"""The search space of Auto-Meta: one cell of one or more blocks, stacked for few-shot tasks.

A cell reads the outputs of the two cells before it, nodes 0 and 1. Each of its blocks, nodes 2, 3,
..., adds two operations, each on an earlier node. The cell's output is the concatenation of all its
nodes, the two inputs among them, or of the blocks that no other block reads. The same cell is
stacked several times; every second one, or as `halve_every` says, makes its inputs half as large
first, or has a max pool behind it.

A genotype starts with the number of blocks less one, then four tokens for each of the most blocks
there may be (input, operation, input, operation); those behind the cell's own blocks mean nothing.
That is how a progressive search, which adds a block at a time, has one space with one length.

Sources: PNAS (arXiv 1712.00559) for cells and blocks; Auto-Meta (arXiv 1806.06927) by its abstract;
the published cell as transcribed in the code of MetaNAS (boschresearch/metanas). Choices of ours,
where nothing was published: the six operations, the number of cells, the same channels everywhere
(as the network of MAML has), both inputs made smaller before a reduction cell, global pooling.
By the figure of the paper all nodes are put together; loose ends are as in the micro space of ENAS,
but without inputs that no block reads.
"""

from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import get_args

import torch
from torch import Tensor, nn

from nascore import ops
from nascore.config import FewShotCellSpaceConfig, FewShotOperation
from nascore.genotype import Genotype
from nascore.spaces import ArchitectureGraph, GraphNode, ImageShape, Phase, check
from nascore.spaces.micro import NUM_INPUTS, Block, Cell, Half, least_order, loose_ends

OPS: tuple[str, ...] = get_args(FewShotOperation)
_SHORT = (
    *("conv3", "conv1x5", "dilsep3", "max", "avg", "id"),
    *("sep3", "sep5", "sep7", "conv1x7", "dil3"),
)
_DRAWN = (
    ("conv 3×3", "conv"),
    ("conv 1×5, 5×1", "conv"),
    ("dilated separable 3×3", "separable"),
    ("max pool 3×3", "pool"),
    ("avg pool 3×3", "pool"),
    ("identity", "skip"),
    ("separable 3×3", "separable"),
    ("separable 5×5", "separable"),
    ("separable 7×7", "separable"),
    ("conv 1×7, 7×1", "conv"),
    ("dilated 3×3", "conv"),
)
_CONV3, _CONV5, _MAX = OPS.index("conv_3x3"), OPS.index("conv_1x5_5x1"), OPS.index("max_pool_3x3")

PUBLISHED: Cell = (
    ((1, _CONV3), (1, _MAX)),
    ((2, _CONV5), (2, _MAX)),
    ((2, _CONV3), (3, _CONV5)),
    ((3, _CONV3), (3, _CONV3)),
    ((3, _CONV5), (2, _CONV3)),
)
"""The cell that Auto-Meta found, its five blocks being nodes 2..6."""


def depth(cell: Cell) -> int:
    """Blocks on the longest path through the cell."""
    return max(_levels(cell))


def width(cell: Cell) -> int:
    """The most blocks that are as deep as each other."""
    levels = _levels(cell)
    return max(map(levels.count, levels))


def outputs(cell: Cell, config: FewShotCellSpaceConfig) -> tuple[int, ...]:
    """The nodes that a cell gives on, inputs being nodes 0 and 1."""
    if config.cell_output == "all":
        return tuple(range(NUM_INPUTS + len(cell)))
    return tuple(node for node in loose_ends(cell) if node >= NUM_INPUTS)


def _levels(cell: Cell) -> list[int]:
    """How deep each block is, the first ones at 1."""
    levels = [0] * NUM_INPUTS
    for block in cell:
        levels.append(1 + max(levels[node] for node, _ in block))
    return levels[NUM_INPUTS:]


class FewShotCellSpace:
    """`SearchSpace` of cells of 1 to `max_blocks` blocks.

    A cell is written with operations as places in `OPS`. Two halves of a block in either order, and
    blocks in any order that works, are the same cell.
    """

    def __init__(self, config: FewShotCellSpaceConfig) -> None:
        self.config = config
        self._allowed = tuple(OPS.index(name) for name in config.operations)
        self.identifier = f"fewshot-cell-{config.max_blocks}"
        if self._allowed != tuple(range(6)):
            self.identifier += "-ops" + "".join(f"{place:x}" for place in self._allowed)
        blocks = [(NUM_INPUTS + b, len(self._allowed)) * 2 for b in range(config.max_blocks)]
        self.cardinalities = (config.max_blocks, *(size for block in blocks for size in block))

    # --- cells ----------------------------------------------------------------------------------

    def cell(self, genotype: Genotype) -> Cell:
        """The blocks that the genotype has, in its own order.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        check(self, genotype)
        num_blocks, tokens = genotype.tokens[0] + 1, genotype.tokens[1:]
        operations = [self._allowed[token] for token in tokens[1::2]]
        halves = list(zip(tokens[0::2], operations, strict=True))
        return tuple(zip(halves[0::2], halves[1::2], strict=True))[:num_blocks]

    def genotype(self, cell: Cell) -> Genotype:
        """The genotype of a cell; zeros stand behind its blocks.

        Raises:
            ValueError: an operation is not allowed here.
            GenotypeNotInSpace: it has too many blocks, or one that reads a later node.
        """
        tokens = [
            token
            for block in cell
            for node, operation in block
            for token in (node, self._allowed.index(operation))
        ]
        missing = len(self.cardinalities) - 1 - len(tokens)
        genotype = Genotype(self.identifier, (len(cell) - 1, *tokens, *[0] * missing))
        check(self, genotype)
        return genotype

    def has(self, cell: Cell) -> bool:
        """Whether it has so many blocks and these operations."""
        used = {operation for block in cell for _, operation in block}
        return len(cell) <= self.config.max_blocks and used <= set(self._allowed)

    def one_block_cells(self) -> tuple[Cell, ...]:
        """Every cell of one block once: k (k + 1) / 2 for the k = 2 * operations ways to read."""
        return tuple((block,) for block in self._blocks(NUM_INPUTS))

    def expansions(self, cell: Cell) -> Iterator[Cell]:
        """Every cell that has one block more, by the halves of that block; none at the limit."""
        if len(cell) < self.config.max_blocks:
            for block in self._blocks(NUM_INPUTS + len(cell)):
                yield (*cell, block)

    def key(self, cell: Cell) -> str:
        """Equal for cells that are the same but for the order of blocks and halves."""
        return str(least_order(cell))

    def _blocks(self, num_nodes: int) -> Iterator[Block]:
        halves = [(node, op) for node in range(num_nodes) for op in sorted(self._allowed)]
        return combinations_with_replacement(halves, 2)

    # --- SearchSpace ------------------------------------------------------------------------------

    def canonical(self, genotype: Genotype) -> str:
        return self.key(self.cell(genotype))

    def describe(self, genotype: Genotype) -> str:
        """`2=conv3(1)+max(1) 3=...`; 0 and 1 are the cell's inputs."""
        blocks = enumerate(self.cell(genotype), start=NUM_INPUTS)
        return " ".join(f"{node}={_words(left)}+{_words(right)}" for node, (left, right) in blocks)

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        cell = tuple(least_order(self.cell(genotype)))  # equal keys are the very same network
        return FewShotNetwork(cell, shape, self.config, phase)

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """One cell, drawn once; how often it stands in the network is in the details."""
        cell = self.cell(genotype)
        image = f"{shape.size}×{shape.size}×{shape.channels}, 3×3 stem"
        if self.config.stem_stride > 1:
            pools = self.config.reduction == "max_pool"
            image += ", max pool 2×2" if pools else f", stride {self.config.stem_stride}"
        every = self.config.halve_every
        stacked = f"{self.config.num_cells} cells, one in {every} halves the map"
        nodes = [
            GraphNode("image", "image", "input", image),
            GraphNode("0", "older input", "sum", "the cell before the last"),
            GraphNode("1", "newer input", "sum", "the last cell"),
        ]
        edges = [("image", "0", ""), ("image", "1", "")]
        for number, block in enumerate(cell, start=NUM_INPUTS):
            for side, (source, operation) in zip(("left", "right"), block, strict=True):
                own = f"{number}-{side}"
                nodes.append(GraphNode(own, *_DRAWN[operation]))
                edges += [(str(source), own, ""), (own, str(number), "")]
            nodes.append(GraphNode(str(number), f"block {number}", "sum", "sum"))
        names = [str(node) for node in outputs(cell, self.config)]
        edges += [*((name, "cell", "") for name in names), ("cell", "classes", "")]
        nodes.append(GraphNode("cell", "cell output", "conv", f"concatenated; {stacked}"))
        nodes.append(GraphNode("classes", "classes", "output", str(shape.num_classes)))
        return ArchitectureGraph(tuple(nodes), tuple(edges))


def _words(half: Half) -> str:
    node, operation = half
    return f"{_SHORT[operation]}({node})"


# --- the network ------------------------------------------------------------------------------


class FewShotNetwork(nn.Module):
    """Stem, cells, ReLU, global average pooling or none, and a linear layer."""

    def __init__(
        self, cell: Cell, shape: ImageShape, config: FewShotCellSpaceConfig, phase: Phase
    ) -> None:
        super().__init__()
        channels = config.final_channels if phase == "final" else config.search_channels
        pools = config.reduction == "max_pool"
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
        average = config.head == "average"
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1) if average else nn.Identity(),
            nn.Flatten(),
            nn.Linear(wide * (1 if average else size**2), shape.num_classes),
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
    """One cell of the stack; all its nodes have the same channels and size."""

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
            inputs: channels of the older and the newer input.
            halves: which of them are made half as large.
        """
        super().__init__()
        self.read = tuple(node for block in cell for node, _ in block)
        self.given = outputs(cell, config)
        always = config.cell_output == "all"
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
    """One of `OPS`; what has weights is ReLU - convolutions - batch norm."""
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
