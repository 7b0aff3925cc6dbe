"""Distances between architectures, and between the controller's states for them.

All are condensed: a vector (P,) over the P = N (N - 1) / 2 pairs of N architectures, in the order
of `scipy.spatial.distance.pdist`.

- `hamming`: number of tokens that differ.
- `edit`: number of labels that differ, and of edges that one of the two graphs has. Nodes have
  fixed positions, so this is the edit distance with the identity as alignment: exact, and a metric
  on graphs.
- `weisfeiler-lehman`: distance of the two graphs in the feature space of the subtree kernel
  (Shervashidze et al., JMLR 12, 2011), sqrt(k(a, a) + k(b, b) - 2 k(a, b)). It ignores positions:
  isomorphic graphs have distance 0.
- differences of leaves, depth and edges: coarse, with many ties.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.distance import pdist, squareform

from nascore.spaces.dag import LabelledDag

Floats = NDArray[np.float64]

WL_ITERATIONS = 3
GRAPH_DISTANCES = ("hamming", "edit", "weisfeiler-lehman")
PROPERTIES: dict[str, Callable[[LabelledDag], int]] = {
    "leaves": lambda dag: dag.num_leaves,
    "depth": lambda dag: dag.depth,
    "edges": lambda dag: dag.num_edges,
}
"""Scalar properties of a graph."""


def architecture_distances(
    tokens_NT: NDArray[np.int64], dags: Sequence[LabelledDag]
) -> dict[str, Floats]:
    """Return all distances of the module docstring between N architectures, by name."""
    return {
        "hamming": hamming(tokens_NT),
        "edit": edit(dags),
        "weisfeiler-lehman": weisfeiler_lehman(dags),
        **{name: difference(dags, name) for name in PROPERTIES},
    }


def state_distances(hidden_NH: Floats) -> dict[str, Floats]:
    """Return distances between hidden states; the cosine distance of a zero state is undefined."""
    return {"euclidean": pdist(hidden_NH, "euclidean"), "cosine": pdist(hidden_NH, "cosine")}


def hamming(tokens_NT: NDArray[np.int64]) -> Floats:
    """Return the number of tokens in which two architectures differ, (P,)."""
    distances: Floats = np.rint(tokens_NT.shape[1] * pdist(tokens_NT, "hamming"))
    return distances


def edit(dags: Sequence[LabelledDag]) -> Floats:
    """Return the edit distances of graphs whose nodes have fixed positions, (P,).

    Raises:
        ValueError: the graphs have different numbers of nodes.
    """
    if len({len(dag.labels) for dag in dags}) != 1:
        raise ValueError("graphs must have the same nodes to be compared position by position")
    numbers = _Numbers()
    labels_NV = np.array([[numbers[label] for label in dag.labels] for dag in dags])
    edges_NE = _counts([Counter(dag.edges) for dag in dags])
    return hamming(labels_NV) + _squared_distances(edges_NE)


def weisfeiler_lehman(dags: Sequence[LabelledDag], iterations: int = WL_ITERATIONS) -> Floats:
    """Return the Weisfeiler-Lehman distances of directed graphs, (P,).

    Predecessors and successors of a node are distinguished.
    """
    numbers = _Numbers()
    return np.sqrt(_squared_distances(_counts([_subtrees(d, iterations, numbers) for d in dags])))


def difference(dags: Sequence[LabelledDag], name: str) -> Floats:
    """Return the absolute differences in one of the `PROPERTIES`, (P,)."""
    values_N1 = np.array([[PROPERTIES[name](dag)] for dag in dags], dtype=np.float64)
    distances: Floats = pdist(values_N1, "cityblock")
    return distances


class _Numbers(dict[Any, int]):
    """Assigns consecutive numbers to keys, in the order of their first use."""

    def __missing__(self, key: Any) -> int:
        self[key] = len(self)
        return self[key]


def _subtrees(dag: LabelledDag, iterations: int, numbers: _Numbers) -> Counter[int]:
    """Count each rooted subtree pattern, of all heights up to `iterations`."""
    predecessors: list[list[int]] = [[] for _ in dag.labels]
    successors: list[list[int]] = [[] for _ in dag.labels]
    for source, target in dag.edges:
        predecessors[target].append(source)
        successors[source].append(target)
    colours = [numbers[label] for label in dag.labels]
    counts = Counter(colours)
    for _ in range(iterations):
        colours = [
            numbers[
                colour,
                tuple(sorted(colours[i] for i in predecessors[node])),
                tuple(sorted(colours[i] for i in successors[node])),
            ]
            for node, colour in enumerate(colours)
        ]
        counts.update(colours)
    return counts


def _counts(counts: Sequence[Counter[Any]]) -> sparse.csr_array:
    """Return a row of counts for each of N counters; the columns are the counted keys."""
    numbers = _Numbers()
    cells = [
        (row, numbers[key], value) for row, one in enumerate(counts) for key, value in one.items()
    ]
    rows, columns, values = zip(*cells, strict=True) if cells else ((), (), ())
    shape = len(counts), max(1, len(numbers))
    return sparse.csr_array((values, (rows, columns)), shape=shape, dtype=np.float64)


def _squared_distances(features_NF: sparse.csr_array) -> Floats:
    """Return squared distances of rows by inner products, which are exact integers here."""
    inner_NN = (features_NF @ features_NF.T).toarray()
    own_N = inner_NN.diagonal()
    square_NN = own_N[:, None] + own_N[None, :] - 2 * inner_NN
    condensed: Floats = squareform(square_NN, checks=False)
    return condensed
