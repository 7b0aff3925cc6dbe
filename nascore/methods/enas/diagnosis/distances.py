"""Distances between architectures, and between the controller's states for them.

All are condensed: a vector (P,) over the P = N (N - 1) / 2 pairs of N architectures, in the order
of `scipy.spatial.distance.pdist`.

- `hamming`: tokens that differ.
- `edit`: labels that differ, and edges that one of the two graphs has. Nodes have fixed positions,
  so this is the edit distance with the identity as alignment: exact, and a metric on graphs.
- `weisfeiler-lehman`: distance of the two graphs in the feature space of the subtree kernel
  (Shervashidze et al., JMLR 12, 2011), sqrt(k(a, a) + k(b, b) - 2 k(a, b)). It knows no positions:
  isomorphic graphs are at 0.
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
    """All distances of the module's text between N architectures, by name."""
    return {
        "hamming": hamming(tokens_NT),
        "edit": edit(dags),
        "weisfeiler-lehman": weisfeiler_lehman(dags),
        **{name: difference(dags, name) for name in PROPERTIES},
    }


def state_distances(hidden_NH: Floats) -> dict[str, Floats]:
    """Distances between hidden states; of a state of zeros the cosine distance is not defined."""
    return {"euclidean": pdist(hidden_NH, "euclidean"), "cosine": pdist(hidden_NH, "cosine")}


def hamming(tokens_NT: NDArray[np.int64]) -> Floats:
    distances: Floats = np.rint(tokens_NT.shape[1] * pdist(tokens_NT, "hamming"))
    return distances


def edit(dags: Sequence[LabelledDag]) -> Floats:
    """Raises ValueError when the graphs have different numbers of nodes."""
    if len({len(dag.labels) for dag in dags}) != 1:
        raise ValueError("graphs must have the same nodes to be compared position by position")
    numbers = _Numbers()
    labels_NV = np.array([[numbers[label] for label in dag.labels] for dag in dags])
    edges_NE = _counts([Counter(dag.edges) for dag in dags])
    return hamming(labels_NV) + _squared_distances(edges_NE)


def weisfeiler_lehman(dags: Sequence[LabelledDag], iterations: int = WL_ITERATIONS) -> Floats:
    """Neighbours before and behind a node are told apart: the graphs are directed."""
    numbers = _Numbers()
    return np.sqrt(_squared_distances(_counts([_subtrees(d, iterations, numbers) for d in dags])))


def difference(dags: Sequence[LabelledDag], name: str) -> Floats:
    """Of one of the `PROPERTIES`."""
    values_N1 = np.array([[PROPERTIES[name](dag)] for dag in dags], dtype=np.float64)
    distances: Floats = pdist(values_N1, "cityblock")
    return distances


class _Numbers(dict[Any, int]):
    """Numbers things in the order in which they are first asked for."""

    def __missing__(self, key: Any) -> int:
        self[key] = len(self)
        return self[key]


def _subtrees(dag: LabelledDag, iterations: int, numbers: _Numbers) -> Counter[int]:
    """How often each rooted subtree pattern occurs, of all heights up to `iterations`."""
    before: list[list[int]] = [[] for _ in dag.labels]
    behind: list[list[int]] = [[] for _ in dag.labels]
    for source, target in dag.edges:
        before[target].append(source)
        behind[source].append(target)
    colours = [numbers[label] for label in dag.labels]
    counts = Counter(colours)
    for _ in range(iterations):
        colours = [
            numbers[
                colour,
                tuple(sorted(colours[i] for i in before[node])),
                tuple(sorted(colours[i] for i in behind[node])),
            ]
            for node, colour in enumerate(colours)
        ]
        counts.update(colours)
    return counts


def _counts(counts: Sequence[Counter[Any]]) -> sparse.csr_array:
    """A row of counts for each of N counters; the columns are the things counted."""
    numbers = _Numbers()
    cells = [
        (row, numbers[key], value) for row, one in enumerate(counts) for key, value in one.items()
    ]
    rows, columns, values = zip(*cells, strict=True) if cells else ((), (), ())
    shape = len(counts), max(1, len(numbers))
    return sparse.csr_array((values, (rows, columns)), shape=shape, dtype=np.float64)


def _squared_distances(features_NF: sparse.csr_array) -> Floats:
    """Of rows, by inner products, which are whole numbers here: exact."""
    inner_NN = (features_NF @ features_NF.T).toarray()
    own_N = inner_NN.diagonal()
    square_NN = own_N[:, None] + own_N[None, :] - 2 * inner_NN
    condensed: Floats = squareform(square_NN, checks=False)
    return condensed
