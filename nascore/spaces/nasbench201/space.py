"""The cell space of NAS-Bench-201 (Dong & Yang, ICLR 2020), for searches with real training.

A cell has four nodes; node j sums one operation of each earlier node i < j. A genotype has one
token an edge, in the order of the benchmark's architecture string: (1,0), (2,0), (2,1), (3,0),
(3,1), (3,2). The network is a stem, three stages of cells with residual blocks between them that
halve the size and double the channels, batch norm, ReLU, global average pooling and a linear layer.
"""

from collections.abc import Iterable
from functools import cache, partial, reduce
from typing import get_args

import torch
from torch import Tensor, nn

from nascore.errors import GenotypeNotInSpace
from nascore.genotype import Genotype
from nascore.spaces import ops
from nascore.spaces.base import (
    ArchitectureGraph,
    GraphNode,
    ImageShape,
    Phase,
    check,
    make_genotype,
    restriction,
)
from nascore.spaces.dag import OUTPUT, LabelledDag
from nascore.spaces.nasbench201.config import Cell201Operation, Cell201SpaceConfig
from nascore.spaces.parts import Parts, below_name, fresh

OPS: tuple[str, ...] = get_args(Cell201Operation)
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))  # (target, source)
_NUM_STAGES = 3
_ZERO = "#"
_DRAWN = {  # label and kind of an operation's node
    "skip_connect": ("identity", "skip"),
    "nor_conv_1x1": ("conv 1×1", "conv"),
    "nor_conv_3x3": ("conv 3×3", "conv"),
    "avg_pool_3x3": ("avg pool 3×3", "pool"),
}


class Cell201Space:
    """`SearchSpace` of the benchmark's 5^6 = 15,625 cells, or of those of some operations."""

    def __init__(self, config: Cell201SpaceConfig) -> None:
        self.config = config
        self._allowed = tuple(OPS.index(name) for name in config.operations)
        self.identifier = "nasbench201" + restriction(self._allowed, len(OPS))
        self.cardinalities = config.cardinalities

    def _operations(self, genotype: Genotype) -> tuple[int, ...]:
        """Return the operation of each edge, as an index into `OPS`."""
        check(self, genotype)
        return tuple(self._allowed[token] for token in genotype.tokens)

    def canonical(self, genotype: Genotype) -> str:
        """Return the expression of the output node, which isomorphic cells share."""
        return _expression(self._operations(genotype))

    def describe(self, genotype: Genotype) -> str:
        return self.to_arch_str(genotype)

    def to_arch_str(self, genotype: Genotype) -> str:
        """Return the benchmark's notation, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
        nodes: dict[int, str] = {}
        for (target, source), token in zip(EDGES, self._operations(genotype), strict=True):
            nodes[target] = nodes.get(target, "|") + f"{OPS[token]}~{source}|"
        return "+".join(nodes[target] for target in sorted(nodes))

    def from_arch_str(self, text: str) -> Genotype:
        """Return the genotype of an architecture in the benchmark's notation.

        Raises:
            GenotypeNotInSpace: the text has another notation, or an operation that is not allowed.
        """
        edges = [edge for node in text.strip().split("+") for edge in node.strip("|").split("|")]
        names = [edge.rpartition("~")[0] for edge in edges]
        allowed: tuple[str, ...] = self.config.operations
        if any(name not in allowed for name in names):
            raise GenotypeNotInSpace(f"not an architecture of NAS-Bench-201: {text!r}")
        genotype = make_genotype(self, [allowed.index(name) for name in names])
        if self.to_arch_str(genotype) != text.strip():
            raise GenotypeNotInSpace(f"not an architecture of NAS-Bench-201: {text!r}")
        return genotype

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        """Build a network; with 16 channels and 5 cells per stage it is the benchmark's."""
        return self.assemble(genotype, shape, fresh, phase)

    def assemble(
        self, genotype: Genotype, shape: ImageShape, parts: Parts, phase: Phase = "search"
    ) -> nn.Module:
        """Build a network whose modules come from `parts`."""
        operations = self._operations(genotype)
        config = self.config
        channels, cells = (
            (config.final_channels, config.final_cells_per_stage)
            if phase == "final"
            else (config.search_channels, config.search_cells_per_stage)
        )
        layers = [parts("stem", partial(_stem, shape.channels, channels))]
        for stage in range(_NUM_STAGES):
            if stage > 0:
                make = partial(_reduction, channels, 2 * channels)
                layers.append(parts(f"stage{stage}/reduction", make))
                channels *= 2
            for cell in range(cells):
                below = below_name(parts, f"stage{stage}/cell{cell}")
                layers.append(Cell(operations, channels, below))
        head = parts("head", partial(_head, channels, shape.num_classes))
        return nn.Sequential(*layers, head)

    def covering(self) -> Iterable[Genotype]:
        """Yield one architecture for each operation, on all edges."""
        for token in range(len(self._allowed)):
            yield Genotype(self.identifier, (token,) * len(EDGES))

    def dag(self, genotype: Genotype) -> LabelledDag:
        """Return the graph of input, six operations and output; operations read those before them.

        `none` is a label like any other, but has no edges; so different genotypes have different
        graphs, and what an operation is connected to depends on the others.
        """
        operations = self._operations(genotype)
        kept = [
            (i + 1, edge)
            for i, (edge, token) in enumerate(zip(EDGES, operations, strict=True))
            if OPS[token] != "none"
        ]
        output = len(EDGES) + 1
        edges = {(0, i) for i, (_, source) in kept if source == 0}
        edges |= {(i, output) for i, (target, _) in kept if target == 3}
        edges |= {(i, j) for i, (target, _) in kept for j, (_, source) in kept if target == source}
        labels = ("input", *(OPS[token] for token in operations), OUTPUT)
        return LabelledDag(labels, frozenset(edges))

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Return the cell with operations as nodes; the details describe the skeleton."""
        operations = self._operations(genotype)
        config = self.config
        stem = f"{shape.size}×{shape.size}×{shape.channels} image, 3×3 stem"
        stack = f"{_NUM_STAGES}×{config.final_cells_per_stage} cells, then linear"
        nodes = [GraphNode("n0", "cell input", "input", stem)]
        edges: list[tuple[str, str, str]] = []
        for (target, source), token in zip(EDGES, operations, strict=True):
            if OPS[token] in _DRAWN:
                label, kind = _DRAWN[OPS[token]]
                name = f"e{target}{source}"
                nodes.append(GraphNode(name, label, kind))
                edges += [(f"n{source}", name, ""), (name, f"n{target}", "")]
        touched = {end for edge in edges for end in edge[:2]}
        nodes += [
            GraphNode(f"n{i}", f"node {i}", "sum", "sum") for i in (1, 2) if f"n{i}" in touched
        ]
        nodes.append(GraphNode("n3", "cell output", "output", stack))
        return ArchitectureGraph(tuple(nodes), tuple(edges))


class Cell(nn.Module):
    """One cell: (B, C, H, W) -> (B, C, H, W).

    Edges whose operation is `none` are left out; a node that nothing reaches is zero.
    """

    def __init__(self, tokens: tuple[int, ...], channels: int, parts: Parts = fresh) -> None:
        super().__init__()
        kept = [pair for pair in zip(EDGES, tokens, strict=True) if OPS[pair[1]] != "none"]
        self.operations = nn.ModuleList(
            [
                parts(
                    f"edge{target}{source}/{OPS[token]}", partial(_operation, OPS[token], channels)
                )
                for (target, source), token in kept
            ]
        )
        # For nodes 1, 2, 3: (source node, position in `operations`) of each edge that arrives.
        self.incoming = tuple(
            tuple((edge[1], i) for i, (edge, _) in enumerate(kept) if edge[0] == target)
            for target in (1, 2, 3)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        nodes = [x_BCHW]
        for edges in self.incoming:
            terms = [self.operations[i](nodes[source]) for source, i in edges]
            # The product keeps the input in the graph: its gradient is zero instead of missing.
            nodes.append(reduce(torch.add, terms) if terms else x_BCHW * 0.0)
        return nodes[3]


def _stem(in_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(ops.conv(in_channels, channels, 3), nn.BatchNorm2d(channels))


def _head(channels: int, num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, num_classes),
    )


def _operation(name: str, channels: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return ops.relu_conv_bn(channels, channels, 1 if name == "nor_conv_1x1" else 3)


def _reduction(in_channels: int, out_channels: int) -> nn.Module:
    """Make the benchmark's residual block: two 3x3 convolutions, and a pooled 1x1 shortcut."""
    body = nn.Sequential(
        *ops.relu_conv_bn(in_channels, out_channels, 3, stride=2),
        *ops.relu_conv_bn(out_channels, out_channels, 3),
    )
    shortcut = nn.Sequential(
        nn.AvgPool2d(2, stride=2, ceil_mode=True), ops.conv(in_channels, out_channels, 1)
    )
    return ops.Sum(body, shortcut)


@cache
def _expression(tokens: tuple[int, ...]) -> str:
    """Return the expression of the output node; terms are sorted, an identity is its source.

    Equal texts are the 6,466 classes that the benchmark counts as distinct. To it an edge is zero
    when its operation or its whole source is (the batch norm of a convolution of zeros could still
    learn a constant), and a sum of several zeros is not.
    """
    nodes = ["0"]
    for target in (1, 2, 3):
        terms = []
        for (to, source), token in zip(EDGES, tokens, strict=True):
            if to != target:
                continue
            if OPS[token] == "none" or nodes[source] == _ZERO:
                terms.append(_ZERO)
            elif OPS[token] == "skip_connect":
                terms.append(nodes[source])
            else:
                terms.append(f"({nodes[source]})@{OPS[token]}")
        nodes.append("+".join(sorted(terms)))
    return nodes[3]
