"""The search space of Auto-Meta: one cell of one or more blocks, stacked for few-shot tasks.

A cell reads the outputs of the two previous cells, nodes 0 and 1. Each of its blocks, nodes 2, 3,
..., adds two operations, each on an earlier node. The same cell is stacked several times; output,
halving and last layer depend on the skeleton (`FewShotCellSpaceConfig.skeleton`).

A genotype starts with the number of blocks less one, then four tokens for each possible block
(input, operation, input, operation); those after the cell's own blocks have no meaning. So a
progressive search, which adds a block at a time, has one space of one length.

Sources: PNAS (arXiv 1712.00559) for cells and blocks; Auto-Meta (arXiv 1806.06927) by its abstract;
the published cell as transcribed in the code of MetaNAS (boschresearch/metanas). Our choices, where
nothing was published: the six operations, the number of cells, equal channels everywhere (as in the
network of MAML), both inputs halved before a reduction cell, global pooling. In the paper's figure
all nodes are concatenated; loose ends are as in the micro space of ENAS, without unread inputs.
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
"""The cell that Auto-Meta found; its five blocks are nodes 2..6."""


def depth(cell: Cell) -> int:
    """Return the number of blocks on the longest path through the cell."""
    return max(_levels(cell))


def width(cell: Cell) -> int:
    """Return the largest number of blocks of equal depth."""
    levels = _levels(cell)
    return max(map(levels.count, levels))


def _levels(cell: Cell) -> list[int]:
    """Return the depth of each block, from 1."""
    levels = [0] * NUM_INPUTS
    for block in cell:
        levels.append(1 + max(levels[node] for node, _ in block))
    return levels[NUM_INPUTS:]


class FewShotCellSpace:
    """`SearchSpace` of cells of 1 to `max_blocks` blocks.

    Operations of a cell are indices into `OPS`. The order of the halves of a block, and of blocks,
    does not matter.
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
        """Return the blocks of a genotype, in its own order.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        check(self, genotype)
        num_blocks, tokens = genotype.tokens[0] + 1, genotype.tokens[1:]
        operations = [self._allowed[token] for token in tokens[1::2]]
        halves = list(zip(tokens[0::2], operations, strict=True))
        return tuple(zip(halves[0::2], halves[1::2], strict=True))[:num_blocks]

    def genotype(self, cell: Cell) -> Genotype:
        """Return the genotype of a cell, padded with zeros.

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
        """Return whether the space has cells of so many blocks and these operations."""
        used = {operation for block in cell for _, operation in block}
        return len(cell) <= self.config.max_blocks and used <= set(self._allowed)

    def one_block_cells(self) -> tuple[Cell, ...]:
        """Return all cells of one block: k (k + 1) / 2 with k = 2 * operations."""
        return tuple((block,) for block in self._blocks(NUM_INPUTS))

    def expansions(self, cell: Cell) -> Iterator[Cell]:
        """Yield all cells that have one more block; none at the limit."""
        if len(cell) < self.config.max_blocks:
            for block in self._blocks(NUM_INPUTS + len(cell)):
                yield (*cell, block)

    def key(self, cell: Cell) -> str:
        """Return a key that does not depend on the order of blocks and halves."""
        return str(least_order(cell))

    def _blocks(self, num_nodes: int) -> Iterator[Block]:
        halves = [(node, op) for node in range(num_nodes) for op in sorted(self._allowed)]
        return combinations_with_replacement(halves, 2)

    # --- SearchSpace ------------------------------------------------------------------------------

    def canonical(self, genotype: Genotype) -> str:
        return self.key(self.cell(genotype))

    def describe(self, genotype: Genotype) -> str:
        """Return text such as `2=conv3(1)+max(1) 3=...`; 0 and 1 are the cell's inputs."""
        blocks = enumerate(self.cell(genotype), start=NUM_INPUTS)
        return " ".join(f"{node}={_words(left)}+{_words(right)}" for node, (left, right) in blocks)

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        cell = tuple(least_order(self.cell(genotype)))  # equal keys are the very same network
        return FewShotNetwork(cell, shape, self.config, phase)

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Return the drawing of the cell; the details describe the stack."""
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
