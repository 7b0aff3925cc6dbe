"""The space of NASIB (arXiv 1910.08665): cells whose edges choose among a hundred operations.

An edge has five tokens: its branch (a convolution, a pooling, the identity, nothing) and, used by
convolutions alone, type, height, width and dilation. Every node keeps two of its incoming edges,
which are a token of the node, except for the first node, which has only two. A genotype has for
each cell, normal and reduction, and each node the token of the node, then those of its edges by
source. The network and its departures from DARTS are in `nascore.spaces.superkernel.network`.

The axes and cells of the paper are not published; these are our choice (docs/nasib.md).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import get_args

from torch import nn

from nascore.genotype import Genotype
from nascore.spaces.base import ArchitectureGraph, ImageShape, Phase, check, make_genotype
from nascore.spaces.cells import NUM_INPUTS, Drawn, draw_cell, draw_stack, label_cells
from nascore.spaces.dag import LabelledDag
from nascore.spaces.parts import Parts, fresh
from nascore.spaces.superkernel.config import (
    ConvolutionType,
    SuperkernelBranch,
    SuperkernelSpaceConfig,
)
from nascore.spaces.superkernel.labels import box, labelled, least_order, short_name
from nascore.spaces.superkernel.network import (
    Cell,
    Convolution,
    Operation,
    Plan,
    StackedNetwork,
    plans,
)

AXES = ("branch", "type", "height", "width", "dilation")
"""The tokens of an edge, in their order."""
KEPT = 2
"""Number of incoming edges that a node keeps."""


@dataclass(frozen=True, slots=True)
class EdgePlace:
    """An edge that a node may keep: cell (0 is normal) and its two nodes."""

    cell: int
    target: int
    source: int


def kept_pairs(num_sources: int) -> list[tuple[int, ...]]:
    """Return the values of the token of a node: the sources of the edges that it keeps."""
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

    # Tokens.

    def genotype(
        self, edge_tokens: Iterable[tuple[int, ...]], kept: Iterable[tuple[int, ...]]
    ) -> Genotype:
        """Return the genotype of operations on `edges` and of the edges that nodes keep.

        Args:
            edge_tokens: five tokens for each of `edges`, in order.
            kept: two ascending sources for each node of each cell.
        """
        tokens: list[int] = []
        left = iter(edge_tokens)
        for sources, target in zip(kept, list(self._targets) * len(self.cell_names), strict=True):
            tokens += [kept_pairs(target).index(tuple(sources))] if target > KEPT else []
            for _ in range(target):
                tokens += next(left)
        return make_genotype(self, tokens)

    def edge_tokens(self, genotype: Genotype) -> list[tuple[int, ...]]:
        """Return five tokens for each of `edges`, also for those that are not kept."""
        return [tokens for _, _, edges in self._nodes(genotype) for tokens in edges]

    def _nodes(
        self, genotype: Genotype
    ) -> Iterator[tuple[int, tuple[int, ...], list[tuple[int, ...]]]]:
        """Yield for each node its cell, the sources that it keeps, the tokens of all its edges."""
        check(self, genotype)
        left = iter(genotype.tokens)
        for cell in range(len(self.cell_names)):
            for target in self._targets:
                sources = kept_pairs(target)[next(left) if target > KEPT else 0]
                edges = [tuple(next(left) for _ in AXES) for _ in range(target)]
                yield cell, sources, edges

    def operation(self, tokens: tuple[int, ...]) -> Operation:
        """Return the operation of five tokens of an edge; `none` is no operation."""
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
        """Return the convolutions of an edge; a 1x1 once for each dilation, as in the tokens."""
        config, sizes = self.config, self.config.kernel_sizes
        return [
            Convolution(*values) for values in product(config.types, sizes, sizes, config.dilations)
        ]

    def dropped(self, shape: ImageShape) -> list[str]:
        """Return the names of the convolutions that are larger than the image.

        `build` accepts them, since padding makes their maps fit. A search excludes them.
        """
        return [one.name for one in self.convolutions() if one.extent > shape.size]

    def cells(self, genotype: Genotype) -> tuple[Cell, ...]:
        """Return the normal cell, and the reduction cell if there is one.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        cells: list[list[tuple[tuple[int, Operation], ...]]] = [[] for _ in self.cell_names]
        for cell, sources, edges in self._nodes(genotype):
            operations = [(source, self.operation(edges[source])) for source in sources]
            cells[cell].append(tuple(edge for edge in operations if edge[1] != "none"))
        return tuple(tuple(cell) for cell in cells)

    def canonical(self, genotype: Genotype) -> str:
        """Return a key that does not depend on the order of nodes and on tokens without effect."""
        return "|".join(least_order(cell) for cell in self.cells(genotype))

    def describe(self, genotype: Genotype) -> str:
        """Return text, `normal 2=sep3x5d2(0)+max(1) 3=... | reduction ...`; 0 and 1 are inputs."""
        lines = []
        for name, cell in zip(self.cell_names, self.cells(genotype), strict=True):
            nodes = [
                f"{number}=" + ("+".join(f"{short_name(o)}({s})" for s, o in node) or "0")
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
        """Build a network whose modules come from `parts`."""
        return self.network(self.cells(genotype), shape, parts, phase)

    def network(
        self, cells: tuple[Cell, ...], shape: ImageShape, parts: Parts, phase: Phase = "search"
    ) -> StackedNetwork:
        """Build a network of cells whose nodes may keep any number of edges.

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
        """Return the cells of the stack."""
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
        """Yield architectures with every operation on every edge."""
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

    # Graphs.

    def dag(self, genotype: Genotype) -> LabelledDag:
        """Return the graph of the cells; see `label_cells`.

        A node has an operation for each edge that it may keep; other edges are labelled `none`.
        """
        return label_cells(
            (
                [labelled(node, target) for target, node in enumerate(cell, start=NUM_INPUTS)],
                self._targets,
            )
            for cell in self.cells(genotype)
        )

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Return the drawing of the cells; the details say how they are stacked."""
        config = self.config
        drawn = [
            draw_cell(
                [[Drawn(source, str(source), *box(one)) for source, one in node] for node in cell],
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
    """Return what the meaning of tokens depends on, without default values."""
    rows = [f"superkernel-{config.num_nodes}", "k" + "_".join(map(str, config.kernel_sizes))]
    rows.append("d" + "_".join(map(str, config.dilations)))
    if config.types != get_args(ConvolutionType):
        rows.append("_".join(config.types))
    every = get_args(SuperkernelBranch)
    if config.operations != every:
        rows.append("ops" + "".join(str(every.index(branch)) for branch in config.operations))
    return "-".join(rows + (["normal"] if config.num_stages == 1 else []))
