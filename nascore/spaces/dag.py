"""An architecture as a labelled graph, for distances between architectures.

Nodes have fixed positions: node i is the same position in all architectures of a space, which makes
an edit distance exact and fast
(`nascore.methods.enas.diagnosis.distances`).
"""

from dataclasses import dataclass
from functools import cached_property

OUTPUT = "output"
"""Label of the output of a network or of a cell."""


@dataclass(frozen=True)
class LabelledDag:
    """A directed acyclic graph; edges are (source, target) with source < target.

    Attributes:
        labels: one per node, such as its operation.
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
        """Number of nodes that outputs read."""
        return len({source for source, target in self.edges if self.labels[target] == OUTPUT})

    @cached_property
    def depth(self) -> int:
        """Number of edges of the longest path to an output."""
        longest = [0] * len(self.labels)
        for source, target in sorted(self.edges, key=lambda edge: edge[1]):
            longest[target] = max(longest[target], longest[source] + 1)
        ends = zip(longest, self.labels, strict=True)
        return max((length for length, label in ends if label == OUTPUT), default=0)
