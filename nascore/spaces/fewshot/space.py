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

from torch import nn

from nascore.genotype import Genotype
from nascore.spaces.base import ArchitectureGraph, ImageShape, Phase, check
from nascore.spaces.blocks import Block, Cell, Half, draw_blocks, least_order
from nascore.spaces.cells import NUM_INPUTS, draw_cell, draw_stack
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig
from nascore.spaces.fewshot.network import OPS, FewShotNetwork, outputs

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
        self.cardinalities = config.cardinalities

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
            image += ", max pool 2×2" if self.config.skeleton == "maml" else ", stride 2"
        every = self.config.halve_every
        stacked = f"{self.config.num_cells} cells, one in {every} halves the map"
        drawn = draw_cell(
            draw_blocks(cell, _DRAWN),
            outputs(cell, self.config),
            output=("conv", f"concatenated; {stacked}"),
        )
        return draw_stack([drawn], image=image, classes=str(shape.num_classes))


def _words(half: Half) -> str:
    node, operation = half
    return f"{_SHORT[operation]}({node})"
