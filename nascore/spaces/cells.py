"""What spaces of cells have in common: a cell with two inputs, drawn and as a labelled graph.

A cell reads the outputs of the two cells before it, its nodes 0 and 1. Each further node adds some
operations, each on an earlier node. Which operations there are, and what a cell gives, is a matter
of its space.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nascore.spaces.base import ArchitectureGraph, GraphNode
from nascore.spaces.dag import OUTPUT, LabelledDag

NUM_INPUTS = 2


class Labelled(NamedTuple):
    """An operation as a node of a labelled graph.

    Attributes:
        source: the node of the cell that it reads; None of an operation that is not there, whose
            place is kept.
    """

    source: int | None
    label: str


class Drawn(NamedTuple):
    """An operation as a box.

    Attributes:
        source: the node of the cell that it reads.
        side: what tells it from the other operations of its node.
        label, kind: see `GraphNode`.
    """

    source: int
    side: str
    label: str
    kind: str


def label_cells(
    cells: Iterable[tuple[Sequence[Sequence[Labelled]], Iterable[int]]],
) -> LabelledDag:
    """Cells, not connected. A cell has its inputs, of each node the operations and their sum, and
    its output; all are where they are in every other architecture.

    Args:
        cells: of each its nodes, and those of them that its output reads.
    """
    labels: list[str] = []
    edges: set[tuple[int, int]] = set()
    for nodes, ends in cells:
        at = [len(labels), len(labels) + 1]  # where the cell's nodes are among all positions
        labels += ["older input", "newer input"]
        for node in nodes:
            total = len(labels) + len(node)
            for source, label in node:
                if source is not None:
                    edges |= {(at[source], len(labels)), (len(labels), total)}
                labels.append(label)
            at.append(total)
            labels.append("sum")
        edges |= {(at[end], len(labels)) for end in ends}
        labels.append(OUTPUT)
    return LabelledDag(tuple(labels), frozenset(edges))


def draw_cell(
    nodes: Sequence[Sequence[Drawn]],
    ends: Iterable[int],
    *,
    output: tuple[str, str],
    name: str = "",
    node_name: str = "block",
) -> ArchitectureGraph:
    """A cell with operations as boxes, from its two inputs to its output, which comes last.

    Args:
        nodes: each node's operations.
        ends: nodes that the output reads.
        output: kind and detail of the box of the output.
        name: of the cell, where there are several; ids and labels start with it.
    """
    title = f"{name}: " if name else ""
    boxes = [
        GraphNode(f"{name}0", f"{title}older input", "sum", "the cell before the last"),
        GraphNode(f"{name}1", f"{title}newer input", "sum", "the last cell"),
    ]
    edges: list[tuple[str, str, str]] = []
    for number, node in enumerate(nodes, start=NUM_INPUTS):
        for source, side, label, kind in node:
            own = f"{name}{number}-{side}"
            boxes.append(GraphNode(own, label, kind))
            edges += [(f"{name}{source}", own, ""), (own, f"{name}{number}", "")]
        boxes.append(GraphNode(f"{name}{number}", f"{node_name} {number}", "sum", "sum"))
    last = f"{name or 'cell'}-out"
    edges += [(f"{name}{end}", last, "") for end in ends]
    boxes.append(GraphNode(last, f"{name or 'cell'} output", *output))
    return ArchitectureGraph(tuple(boxes), tuple(edges))


def draw_stack(
    cells: Sequence[ArchitectureGraph], *, image: str, classes: str
) -> ArchitectureGraph:
    """Cells one below the other, from the image to the classes; how they are stacked is in words.

    Args:
        cells: each as `draw_cell` draws it.
        image, classes: details of the first and the last box.
    """
    boxes = [GraphNode("image", "image", "input", image)]
    edges: list[tuple[str, str, str]] = []
    for cell in cells:
        above = boxes[-1].id
        edges += [(above, box.id, "") for box in cell.nodes[:NUM_INPUTS]] + list(cell.edges)
        boxes += cell.nodes
    edges.append((boxes[-1].id, "classes", ""))
    boxes.append(GraphNode("classes", "classes", "output", classes))
    return ArchitectureGraph(tuple(boxes), tuple(edges))
