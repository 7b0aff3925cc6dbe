"""The space of NASIB (arXiv 1910.08665): cells whose edges choose among a hundred operations.

An edge is a branch (a convolution, a pooling, the identity, nothing) and, of a convolution, its
type, height, width and dilation: five tokens, those of a convolution without a meaning in other
branches. Every node keeps two of its incoming edges, which a token of the node says, but for the
first node, that has no more than two. A genotype has for each cell, normal and reduction, and each
node the token of the node, then those of its edges by source. What the network is and where it
departs from DARTS: `nascore.spaces.superkernel.network`.

The paper's own axes and cells are not known; these are our choice (docs/nasib.md).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import get_args

from torch import nn

from nascore.genotype import Genotype
from nascore.spaces.base import ArchitectureGraph, ImageShape, Phase, check, make_genotype
from nascore.spaces.cells import NUM_INPUTS, Drawn, Labelled, draw_cell, draw_stack, label_cells
from nascore.spaces.dag import LabelledDag
from nascore.spaces.parts import Parts, fresh
from nascore.spaces.superkernel.config import (
    ConvolutionType,
    SuperkernelBranch,
    SuperkernelSpaceConfig,
)
from nascore.spaces.superkernel.network import (
    Cell,
    Convolution,
    Operation,
    Plan,
    StackedNetwork,
    name_of,
    plans,
)

AXES = ("branch", "type", "height", "width", "dilation")
"""The tokens of an edge, in their order."""
KEPT = 2
"""Incoming edges that a node keeps."""
_SHORT = {"max_pool_3x3": "max", "avg_pool_3x3": "avg", "identity": "id"}
_DRAWN = {
    "max_pool_3x3": ("max pool 3×3", "pool"),
    "avg_pool_3x3": ("avg pool 3×3", "pool"),
    "identity": ("identity", "skip"),
}


@dataclass(frozen=True, slots=True)
class EdgePlace:
    """An edge that a node may keep, by the number of the cell (0 is normal) and its two nodes."""

    cell: int
    target: int
    source: int


def kept_pairs(num_sources: int) -> list[tuple[int, ...]]:
    """What the token of a node stands for: the sources of the edges that it keeps."""
    return list(combinations(range(num_sources), KEPT))


class SuperkernelSpace:
    """`SearchSpace` of one or two cells; 3.8e79 token strings by default."""

    def __init__(self, config: SuperkernelSpaceConfig) -> None:
        self.config = config
        self.axis_sizes = config.axis_sizes
        self.identifier = _identifier(config)
        self.cell_names = ("normal", "reduction") if config.num_stages > 1 else ("normal",)
        self._targets = range(NUM_INPUTS, NUM_INPUTS + config.num_nodes)
        self.edges = tuple(
            EdgePlace(cell, target, source)
            for cell in range(len(self.cell_names))
            for target in self._targets
            for source in range(target)
        )
        self.cardinalities = config.cardinalities

    # Tokens and what they mean.

    def genotype(
        self, edge_tokens: Iterable[tuple[int, ...]], kept: Iterable[tuple[int, ...]]
    ) -> Genotype:
        """The genotype of an operation for each of `edges` and the sources that nodes keep.

        Args:
            edge_tokens: five for each of `edges`, in order.
            kept: for each node of each cell two sources, growing.
        """
        tokens: list[int] = []
        left = iter(edge_tokens)
        for sources, target in zip(kept, list(self._targets) * len(self.cell_names), strict=True):
            tokens += [kept_pairs(target).index(tuple(sources))] if target > KEPT else []
            for _ in range(target):
                tokens += next(left)
        return make_genotype(self, tokens)

    def edge_tokens(self, genotype: Genotype) -> list[tuple[int, ...]]:
        """Five tokens for each of `edges`, those that are not kept among them."""
        return [tokens for _, _, edges in self._nodes(genotype) for tokens in edges]

    def _nodes(
        self, genotype: Genotype
    ) -> Iterator[tuple[int, tuple[int, ...], list[tuple[int, ...]]]]:
        """Of each node: its cell, the sources that it keeps, the tokens of all its edges."""
        check(self, genotype)
        left = iter(genotype.tokens)
        for cell in range(len(self.cell_names)):
            for target in self._targets:
                sources = kept_pairs(target)[next(left) if target > KEPT else 0]
                edges = [tuple(next(left) for _ in AXES) for _ in range(target)]
                yield cell, sources, edges

    def operation(self, tokens: tuple[int, ...]) -> Operation:
        """What five tokens of an edge stand for; `none` is nothing."""
        branch, kind, height, width, dilation = tokens
        config = self.config
        if config.operations[branch] != "conv":
            return config.operations[branch]
        return Convolution(
            config.types[kind],
            config.kernel_sizes[height],
            config.kernel_sizes[width],
            config.dilations[dilation],
        )

    def convolutions(self) -> list[Convolution]:
        """All that an edge chooses from; a 1x1 is there once for each dilation, as its tokens."""
        config, sizes = self.config, self.config.kernel_sizes
        return [
            Convolution(*values) for values in product(config.types, sizes, sizes, config.dilations)
        ]

    def dropped(self, shape: ImageShape) -> list[str]:
        """Names of the convolutions that reach from one side of the image beyond the other.

        `build` takes them all the same: padding makes their maps fit. A search leaves them out.
        """
        return [one.name for one in self.convolutions() if one.extent > shape.size]

    def cells(self, genotype: Genotype) -> tuple[Cell, ...]:
        """The normal cell, and the reduction cell where there is one.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        cells: list[list[tuple[tuple[int, Operation], ...]]] = [[] for _ in self.cell_names]
        for cell, sources, edges in self._nodes(genotype):
            operations = [(source, self.operation(edges[source])) for source in sources]
            cells[cell].append(tuple(edge for edge in operations if edge[1] != "none"))
        return tuple(tuple(cell) for cell in cells)

    def canonical(self, genotype: Genotype) -> str:
        """Equal for cells that differ in the order of their nodes, or in what has no effect."""
        return "|".join(_least_order(cell) for cell in self.cells(genotype))

    def describe(self, genotype: Genotype) -> str:
        """`normal 2=sep3x5d2(0)+max(1) 3=... | reduction ...`; 0 and 1 are the cell's inputs."""
        lines = []
        for name, cell in zip(self.cell_names, self.cells(genotype), strict=True):
            nodes = [
                f"{number}=" + ("+".join(f"{_word(o)}({s})" for s, o in node) or "0")
                for number, node in enumerate(cell, start=NUM_INPUTS)
            ]
            lines.append(" ".join([name, *nodes]))
        return " | ".join(lines)

    # Networks.

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        return self.assemble(genotype, shape, fresh, phase)

    def assemble(
        self, genotype: Genotype, shape: ImageShape, parts: Parts, phase: Phase = "search"
    ) -> nn.Module:
        """`build`, with every operation and all that has weights from `parts`."""
        return self.network(self.cells(genotype), shape, parts, phase)

    def network(
        self, cells: tuple[Cell, ...], shape: ImageShape, parts: Parts, phase: Phase = "search"
    ) -> StackedNetwork:
        """A network of any cells with the right number of nodes, however many edges they keep.

        In the search phase batch norms of operations neither scale nor shift, as in DARTS.
        """
        return StackedNetwork(
            cells,
            self.plans(phase),
            in_channels=shape.channels,
            num_classes=shape.num_classes,
            parts=parts,
            affine=phase == "final",
        )

    def plans(self, phase: Phase = "search") -> tuple[Plan, ...]:
        """The stack of cells."""
        config, is_final = self.config, phase == "final"
        return plans(
            config.num_nodes,
            num_stages=config.num_stages,
            cells_per_stage=(
                config.final_cells_per_stage if is_final else config.search_cells_per_stage
            ),
            channels=config.final_channels if is_final else config.search_channels,
        )

    def covering(self) -> Iterable[Genotype]:
        """Every operation on every edge, the same one on all that a genotype keeps."""
        num_turns = (max(self._targets) + 1) // KEPT
        for tokens in product(*map(range, self.axis_sizes)):
            if self.config.operations[tokens[0]] != "conv" and any(tokens[1:]):
                continue
            for turn in range(num_turns):
                kept = [
                    tuple(min(KEPT * turn, target - KEPT) + i for i in range(KEPT))
                    for target in self._targets
                ]
                yield self.genotype([tokens] * len(self.edges), kept * len(self.cell_names))

    # For a person, and for distances.

    def dag(self, genotype: Genotype) -> LabelledDag:
        """The cells; see `label_cells`. A node has an operation for each edge that it may keep;
        edges that it does not keep are `none`, which is a label like any other."""
        return label_cells(
            (
                [_labelled(node, target) for target, node in enumerate(cell, start=NUM_INPUTS)],
                self._targets,
            )
            for cell in self.cells(genotype)
        )

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """The reduction cell below the normal one; how they are stacked is in the details."""
        config = self.config
        drawn = [
            draw_cell(
                [[Drawn(source, str(source), *_box(one)) for source, one in node] for node in cell],
                self._targets,
                output=("sum", "concatenated"),
                name=name,
                node_name="node",
            )
            for name, cell in zip(self.cell_names, self.cells(genotype), strict=True)
        ]
        return draw_stack(
            drawn,
            image=f"{shape.size}×{shape.size}×{shape.channels}, 3×3 stem",
            classes=f"{config.num_stages}×{config.final_cells_per_stage} normal, "
            f"{config.num_stages - 1} reduction",
        )


def _identifier(config: SuperkernelSpaceConfig) -> str:
    """All that the meaning of a token depends on; what is as by default is not named."""
    rows = [f"superkernel-{config.num_nodes}", "k" + "_".join(map(str, config.kernel_sizes))]
    rows.append("d" + "_".join(map(str, config.dilations)))
    if config.types != get_args(ConvolutionType):
        rows.append("_".join(config.types))
    every = get_args(SuperkernelBranch)
    if config.operations != every:
        rows.append("ops" + "".join(str(every.index(branch)) for branch in config.operations))
    return "-".join(rows + (["normal"] if config.num_stages == 1 else []))


def _least_order(cell: Cell) -> str:
    """The least text of the cell among all orders of its nodes in which sources come first."""
    texts = []
    for order in permutations(range(len(cell))):
        place = {i: i for i in range(NUM_INPUTS)}
        place |= {NUM_INPUTS + node: NUM_INPUTS + at for at, node in enumerate(order)}
        nodes = [sorted((place[source], name_of(o)) for source, o in cell[node]) for node in order]
        if all(s < NUM_INPUTS + at for at, node in enumerate(nodes) for s, _ in node):
            texts.append(str(nodes))
    return min(texts)


def _labelled(node: tuple[tuple[int, Operation], ...], target: int) -> list[Labelled]:
    """An operation for each node before `target`, `none` where nothing is kept."""
    kept = dict(node)
    return [
        Labelled(source if source in kept else None, name_of(kept.get(source, "none")))
        for source in range(target)
    ]


def _word(operation: Operation) -> str:
    if isinstance(operation, str):
        return _SHORT[operation]
    dilated = f"d{operation.dilation}" if operation.dilation > 1 else ""
    kind = "sep" if operation.kind == "separable" else "conv"
    return f"{kind}{operation.height}x{operation.width}{dilated}"


def _box(operation: Operation) -> tuple[str, str]:
    """Label and kind of a drawn node."""
    if isinstance(operation, str):
        return _DRAWN[operation]
    is_separable = operation.kind == "separable"
    size = f"{'separable' if is_separable else 'conv'} {operation.height}×{operation.width}"
    dilated = f", dilation {operation.dilation}" if operation.dilation > 1 else ""
    return size + dilated, "separable" if is_separable else "conv"
