"""An architecture as a labelled graph, for distances between architectures.

Nodes have fixed positions: node i of one architecture stands for the same place as node i of any
other of its space. That makes an edit distance exact and cheap
(`nascore.methods.enas.diagnosis.distances`).
"""

from dataclasses import dataclass
from functools import cached_property

OUTPUT = "output"
"""Label of a node that nothing is read from: a network's, or a cell's, result."""


@dataclass(frozen=True)
class LabelledDag:
    """A directed acyclic graph; edges are (source, target) with source < target.

    Attributes:
        labels: one a node, such as the operation that it stands for.
        edges: positions of nodes.
    """

    labels: tuple[str, ...]
    edges: frozenset[tuple[int, int]]

    def __post_init__(self) -> None:
        for source, target in self.edges:
            if not 0 <= source < target < len(self.labels):
                raise ValueError(
                    f"an edge must go from a node to a later one of {len(self.labels)}, got "
                    f"({source}, {target})"
                )

    @property
    def num_edges(self) -> int:
        return len(self.edges)

    @property
    def num_leaves(self) -> int:
        """What the outputs read: nodes with an edge into one labelled `output`."""
        return len({source for source, target in self.edges if self.labels[target] == OUTPUT})

    @cached_property
    def depth(self) -> int:
        """Edges of the longest path that ends in an output."""
        longest = [0] * len(self.labels)
        for source, target in sorted(self.edges, key=lambda edge: edge[1]):
            longest[target] = max(longest[target], longest[source] + 1)
        ends = zip(longest, self.labels, strict=True)
        return max((length for length, label in ends if label == OUTPUT), default=0)
