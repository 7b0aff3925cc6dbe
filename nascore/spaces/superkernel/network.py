"""The networks of the superkernel space: cells of a few nodes, stacked, and their operations.

A cell reads the outputs of the two cells before it, nodes 0 and 1. Each further node is the sum of
operations on earlier nodes; the cell's output is the concatenation of its further nodes. Between
the stages a reduction cell halves the map and doubles the channels. Tensors are (B, C, H, W).

Source: the cells of DARTS (arXiv 1806.09055). Departures: both inputs of a reduction cell are
downsampled before it, so that operations keep the map and an identity has no weights; a separable
convolution is applied once, not twice, so that one tensor contains all of them; cells that no other
reads are omitted; no auxiliary head, no path dropout.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nascore.spaces import ops
from nascore.spaces.cells import NUM_INPUTS
from nascore.spaces.parts import Parts, below_name
from nascore.spaces.superkernel.config import ConvolutionType

_STEM_WIDTH = 3  # channels of the stem, in those of the first cell


@dataclass(frozen=True, slots=True, order=True)
class Convolution:
    """One of the convolutions that an edge chooses from.

    Attributes:
        kind: `separable` is depthwise, then pointwise.
        height, width: of the kernel in pixels, odd.
        dilation: distance between the pixels of the kernel; 1 for a kernel of one pixel.
    """

    kind: ConvolutionType
    height: int
    width: int
    dilation: int

    def __post_init__(self) -> None:
        if self.height == self.width == 1:  # no distance between the pixels of one pixel
            object.__setattr__(self, "dilation", 1)

    @property
    def name(self) -> str:
        """Name such as `separable_3x5_d2`, height first."""
        return f"{self.kind}_{self.height}x{self.width}_d{self.dilation}"

    @property
    def extent(self) -> int:
        """Pixels from the first to the last of the kernel, along its longer side."""
        return self.dilation * (max(self.height, self.width) - 1) + 1

    @classmethod
    def from_name(cls, name: str) -> "Convolution | None":
        """Read a name; return None for that of another operation."""
        found = re.fullmatch(r"(standard|separable)_(\d+)x(\d+)_d(\d+)", name)
        if found is None:
            return None
        kind: ConvolutionType = "standard" if found[1] == "standard" else "separable"
        return cls(kind, int(found[2]), int(found[3]), int(found[4]))


Operation = Convolution | str
"""A convolution, or the name of another branch (`nascore.config.SuperkernelBranch`)."""
Edge = tuple[int, Operation]
"""Source node and operation; never `none`."""
Node = tuple[Edge, ...]
Cell = tuple[Node, ...]


def name_of(operation: Operation) -> str:
    """Return the name of an operation."""
    return operation if isinstance(operation, str) else operation.name


@dataclass(frozen=True, slots=True)
class EdgePart:
    """Position of an operation: `cell2/edge3_0/...` is in cell 2, from node 0 to node 3."""

    cell: int
    target: int
    source: int
    operation: str

    @property
    def name(self) -> str:
        return f"cell{self.cell}/edge{self.target}_{self.source}/{self.operation}"

    @classmethod
    def from_name(cls, name: str) -> "EdgePart | None":
        """Read a name; return None for that of a module that is not on an edge."""
        found = re.fullmatch(r"cell(\d+)/edge(\d+)_(\d+)/(\w+)", name)
        if found is None:
            return None
        return cls(int(found[1]), int(found[2]), int(found[3]), found[4])


@dataclass(frozen=True, slots=True)
class Output:
    """Shape of the output of a cell: its channels, and the number of halvings of the map."""

    channels: int
    halvings: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A cell of the stack: the shapes of its inputs and of its nodes."""

    is_reduction: bool
    inputs: tuple[Output, Output]
    nodes: Output


def plans(
    num_nodes: int, *, num_stages: int, cells_per_stage: int, channels: int
) -> tuple[Plan, ...]:
    """Return the cells of the stack in order."""
    stem = Output(_STEM_WIDTH * channels, 0)
    older, newer = stem, stem
    made: list[Plan] = []
    for stage in range(num_stages):
        nodes = Output(channels * 2**stage, stage)
        for is_reduction in ([True] if stage > 0 else []) + [False] * cells_per_stage:
            made.append(Plan(is_reduction, (older, newer), nodes))
            older, newer = newer, Output(num_nodes * nodes.channels, stage)
    return tuple(made)


class StackedNetwork(nn.Module):
    """A stack of cells that read the two before them: (B, C, H, W) -> logits (B, num_classes).

    Args:
        cells: the normal cell, then the reduction cell if a plan has one.
        in_channels: channels of the images.
        parts: returns the modules.
        affine: whether batch norms of operations scale and shift.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        stack: Sequence[Plan],
        *,
        in_channels: int,
        num_classes: int,
        parts: Parts,
        affine: bool,
    ) -> None:
        super().__init__()
        stem = stack[0].inputs[0].channels
        self.stem = parts("stem", partial(_stem, in_channels, stem))
        self.cells = nn.ModuleList()
        self.places: list[int] = []  # of those cells in the stack
        chosen = [cells[plan.is_reduction] for plan in stack]
        for place in _needed([_reads(cell) for cell in chosen]):
            below = below_name(parts, f"cell{place}")
            self.cells.append(StackedCell(chosen[place], stack[place], below, affine=affine))
            self.places.append(place)
        channels = len(chosen[-1]) * stack[-1].nodes.channels
        self.head = parts("head", partial(_head, channels, num_classes))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        stem_BCHW = self.stem(x_BCHW)
        outputs = {
            -2: stem_BCHW,
            -1: stem_BCHW,
        }  # by position in the stack
        for place, cell in zip(self.places, self.cells, strict=True):
            # Omitted cells have no output; the cells after them do not read it.
            older = outputs.pop(place - 2, stem_BCHW)
            outputs[place] = cell(older, outputs.get(place - 1, stem_BCHW))
        logits_BK: Tensor = self.head(outputs[self.places[-1]])
        return logits_BK


class StackedCell(nn.Module):
    """One cell: two maps of any channels -> the concatenation of its nodes."""

    def __init__(self, cell: Cell, plan: Plan, parts: Parts, *, affine: bool) -> None:
        super().__init__()
        self.reads = _reads(cell)
        self.inputs = nn.ModuleDict(
            {
                str(i): parts(f"input{i}", partial(_calibration, plan.inputs[i], plan.nodes))
                for i in self.reads
            }
        )
        self.operations = nn.ModuleList()
        self.incoming: list[list[tuple[int, int]]] = []  # source, position in `operations`
        channels = plan.nodes.channels
        for target, node in enumerate(cell, start=NUM_INPUTS):
            self.incoming.append([])
            for source, operation in node:
                self.incoming[-1].append((source, len(self.operations)))
                name = f"edge{target}_{source}/{name_of(operation)}"
                make = partial(make_operation, operation, channels, affine=affine)
                self.operations.append(parts(name, make))

    def forward(self, older_BCHW: Tensor, newer_BCHW: Tensor) -> Tensor:
        given = (older_BCHW, newer_BCHW)
        nodes = {i: self.inputs[str(i)](given[i]) for i in self.reads}
        for target, edges in enumerate(self.incoming, start=NUM_INPUTS):
            if not edges:
                # The product keeps the input in the graph: its gradient is zero, not missing.
                nodes[target] = nodes[1] * 0.0
                continue
            terms = [self.operations[position](nodes[source]) for source, position in edges]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            nodes[target] = total
        return torch.cat([nodes[NUM_INPUTS + i] for i in range(len(self.incoming))], dim=1)


def make_operation(operation: Operation, channels: int, *, affine: bool) -> nn.Module:
    """Make an operation that keeps channels and size, with initial weights."""
    if isinstance(operation, Convolution):
        return convolution(operation, channels, affine=affine)
    if operation == "identity":
        return nn.Identity()
    pool: nn.Module = (
        nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        if operation == "avg_pool_3x3"
        else nn.MaxPool2d(3, stride=1, padding=1)
    )
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


def convolution(one: Convolution, channels: int, *, affine: bool) -> nn.Sequential:
    """Make ReLU, convolution (or depthwise and pointwise), batch norm."""
    kernel = (one.height, one.width)
    if one.kind == "standard":
        layers = [ops.conv(channels, channels, kernel, dilation=one.dilation)]
    else:
        layers = [
            ops.conv(channels, channels, kernel, dilation=one.dilation, groups=channels),
            ops.conv(channels, channels, 1),
        ]
    return nn.Sequential(nn.ReLU(), *layers, nn.BatchNorm2d(channels, affine=affine))


def _reads(cell: Cell) -> tuple[int, ...]:
    """Return the inputs that a cell reads; a node without an edge is made of the newer one."""
    read = {source for node in cell for source, _ in node if source < NUM_INPUTS}
    return tuple(sorted(read | ({1} if not all(cell) else set())))


def _needed(reads: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the positions of the cells that the last one depends on, in order."""
    needed = {len(reads) - 1}
    for place in reversed(range(len(reads))):
        if place in needed:
            needed |= {place - NUM_INPUTS + i for i in reads[place]}
    return sorted(place for place in needed if place >= 0)


def _stem(in_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(ops.conv(in_channels, channels, 3), nn.BatchNorm2d(channels))


def _head(channels: int, num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )


def _calibration(given: Output, wanted: Output) -> nn.Module:
    """Make the module that brings an input of a cell to the shape of its nodes."""
    layers: list[nn.Module] = []
    channels = given.channels
    for _ in range(wanted.halvings - given.halvings):
        layers.append(ops.FactorisedReduction(channels, wanted.channels))
        channels = wanted.channels
    return nn.Sequential(*layers) if layers else ops.relu_conv_bn(channels, wanted.channels, 1)
