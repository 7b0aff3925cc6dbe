"""Drawing of an architecture as lines of text, for Markdown and terminals."""

from graphlib import TopologicalSorter

from nascore.spaces.base import ArchitectureGraph


def to_text(graph: ArchitectureGraph) -> list[str]:
    """Return a line for each node: its number, its operation, and the numbers of its inputs.

    Args:
        graph: nodes and edges; every edge goes to a node with a higher number.

    Raises:
        graphlib.CycleError: the graph has a cycle.
    """
    nodes = {node.id: node for node in graph.nodes}
    sorter = TopologicalSorter({node.id: () for node in graph.nodes})
    for source, target, _ in graph.edges:
        sorter.add(target, source)
    # An output that nothing reads is the last line, also where other nodes are not read either.
    ordered = sorted(sorter.static_order(), key=lambda one: nodes[one].kind == "output")
    numbers = {one: number for number, one in enumerate(ordered, start=1)}
    width = len(str(len(ordered)))
    lines = []
    for one in ordered:
        node = nodes[one]
        inputs = [
            f"{numbers[source]}{f' ({label})' if label else ''}"
            for source, target, label in sorted(
                graph.edges, key=lambda edge: (numbers[edge[0]], edge[2])
            )
            if target == one
        ]
        text = node.label + (f" ({node.detail})" if node.detail else "")
        arrow = f" <- {', '.join(inputs)}" if inputs else ""
        lines.append(f"{numbers[one]:>{width}} {text}{arrow}")
    return lines
