"""Cells with two inputs, as drawings and as labelled graphs; shared by spaces of cells.

A cell reads the outputs of the two previous cells, its nodes 0 and 1. Each further node adds some
operations, each on an earlier node. Operations and output of a cell depend on its space.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nascore.spaces.base import ArchitectureGraph, GraphNode
from nascore.spaces.dag import OUTPUT, LabelledDag

NUM_INPUTS = 2


class Labelled(NamedTuple):
    """An operation as a node of a labelled graph.

    Attributes:
        source: the node that it reads; None for an absent operation, which keeps its position.
    """

    source: int | None
    label: str


class Drawn(NamedTuple):
    """An operation as a box.

    Attributes:
        source: the node that it reads.
        side: distinguishes the operations of one node.
        label, kind: see `GraphNode`.
    """

    source: int
    side: str
    label: str
    kind: str


def label_cells(
    cells: Iterable[tuple[Sequence[Sequence[Labelled]], Iterable[int]]],
) -> LabelledDag:
    """Return the graph of unconnected cells, with equal positions in all architectures.

    A cell has its inputs, for each node the operations and their sum, and its output.

    Args:
        cells: nodes of each cell, and the nodes that its output reads.
    """
    labels: list[str] = []
    edges: set[tuple[int, int]] = set()
    for nodes, ends in cells:
        at = [len(labels), len(labels) + 1]  # positions of the cell's nodes
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
    """Return the graph of a cell with operations as boxes; its output is the last node.

    Args:
        nodes: operations of each node.
        ends: nodes that the output reads.
        output: kind and detail of the box of the output.
        name: of the cell, if there are several; ids and labels start with it.
        node_name: name of a node in its label.
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
    """Return the graph of cells one below the other, from the image to the classes.

    Args:
        cells: graphs by `draw_cell`.
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
