"""Graphs of architectures and the distances between them."""

import itertools
import time

import numpy as np
import pytest
from scipy.spatial.distance import squareform

from nascore.errors import GenotypeNotInSpace
from nascore.genotype import Genotype
from nascore.methods.enas.diagnosis import distances
from nascore.spaces import base
from nascore.spaces.base import make_genotype, make_space
from nascore.spaces.dag import LabelledDag
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig
from nascore.spaces.enas_micro.space import EnasMicroSpace
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.nasbench201.space import Cell201Space

CELL = Cell201Space(Cell201SpaceConfig())
NONE, SKIP, CONV1, CONV3, POOL = range(5)
MICRO = EnasMicroSpace(EnasMicroSpaceConfig(num_blocks=2))
SHAREABLE = {
    "nasbench201": Cell201SpaceConfig(),
    "enas-micro": EnasMicroSpaceConfig(),
    "mobile": MobileSpaceConfig(),
}


def cell(*tokens: int) -> LabelledDag:
    return CELL.dag(make_genotype(CELL, tokens))


def uniform(space_name: str, num: int, seed: int = 0) -> tuple[np.ndarray, list[LabelledDag]]:
    space = make_space(SHAREABLE[space_name])
    rng = np.random.default_rng(seed)
    genotypes = {base.sample(space, rng) for _ in range(2 * num)}
    chosen = sorted(genotypes, key=lambda genotype: genotype.tokens)[:num]
    return np.array([g.tokens for g in chosen]), [space.dag(g) for g in chosen]  # type: ignore[attr-defined]


# --- graphs ---------------------------------------------------------------------------------


def test_a_chain_of_three_operations() -> None:
    """(1,0), (2,1) and (3,2) are there: input, three operations, output in a row."""
    dag = cell(CONV3, NONE, CONV1, NONE, NONE, POOL)
    assert dag.labels == (
        "input",
        "nor_conv_3x3",
        "none",
        "nor_conv_1x1",
        "none",
        "none",
        "avg_pool_3x3",
        "output",
    )
    assert dag.edges == {(0, 1), (1, 3), (3, 6), (6, 7)}
    assert (dag.num_edges, dag.depth, dag.num_leaves) == (4, 4, 1)


def test_a_full_cell_and_an_empty_one() -> None:
    full, empty = cell(*[CONV3] * 6), cell(*[NONE] * 6)
    assert (full.num_edges, full.depth, full.num_leaves) == (3 + 3 + 4, 4, 3)
    assert (empty.num_edges, empty.depth, empty.num_leaves) == (0, 0, 0)


def test_what_does_not_reach_the_output_is_no_leaf_and_adds_no_depth() -> None:
    dag = cell(CONV3, NONE, CONV3, POOL, NONE, NONE)
    assert (dag.num_edges, dag.depth, dag.num_leaves) == (4, 2, 1)


def test_a_genotype_of_another_space_has_no_graph() -> None:
    with pytest.raises(GenotypeNotInSpace):
        CELL.dag(Genotype("another", (0,) * 6))


def test_two_micro_cells_of_two_blocks() -> None:
    """The second block of the normal cell reads the first; those of the reduction cell, input 1."""
    normal, reduction = (0, 0, 1, 4, 2, 1, 1, 2), (1, 0, 1, 0, 1, 0, 1, 0)
    dag = MICRO.dag(make_genotype(MICRO, normal + reduction))
    inputs = ("older input", "newer input")
    first = (*inputs, "sep_conv_3x3", "identity", "sum", "sep_conv_5x5", "avg_pool_3x3", "sum")
    second = (*inputs, *["sep_conv_3x3", "sep_conv_3x3", "sum"] * 2)
    assert dag.labels == (*first, "output", *second, "output")
    # Loose ends: node 7 of the normal cell; input 0 and both sums of the reduction cell.
    in_normal = {(0, 2), (1, 3), (2, 4), (3, 4), (4, 5), (1, 6), (5, 7), (6, 7), (7, 8)}
    in_reduction = {(1, 2), (1, 3), (2, 4), (3, 4), (1, 5), (1, 6), (5, 7), (6, 7)}
    in_reduction |= {(0, 8), (4, 8), (7, 8)}
    assert dag.edges == in_normal | {(9 + a, 9 + b) for a, b in in_reduction}
    assert (dag.num_edges, dag.num_leaves, dag.depth) == (20, 4, 5)


@pytest.mark.parametrize("edges", [{(1, 0)}, {(0, 0)}, {(0, 2)}, {(-1, 1)}])
def test_an_edge_that_goes_back_or_nowhere_is_refused(edges: set[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="edge"):
        LabelledDag(("input", "output"), frozenset(edges))


@pytest.mark.parametrize("space", SHAREABLE)
def test_different_genotypes_have_different_graphs(space: str) -> None:
    _, dags = uniform(space, 300)
    assert len({(dag.labels, dag.edges) for dag in dags}) == 300


# --- distances ------------------------------------------------------------------------------


def test_edit_distance_by_hand() -> None:
    chain = cell(CONV3, NONE, CONV1, NONE, NONE, POOL)
    other_label = cell(CONV1, NONE, CONV1, NONE, NONE, POOL)
    # One label, and the edges (0, 4) and (4, 7) of the operation that comes in.
    one_more = cell(CONV3, NONE, CONV1, SKIP, NONE, POOL)
    assert distances.edit([chain, other_label]).tolist() == [1]
    assert distances.edit([chain, one_more]).tolist() == [3]
    assert distances.edit([chain, other_label, one_more]).tolist() == [1, 3, 4]


def test_edit_distance_against_its_definition() -> None:
    _, dags = uniform("nasbench201", 30)
    expected = [
        sum(x != y for x, y in zip(a.labels, b.labels, strict=True)) + len(a.edges ^ b.edges)
        for a, b in itertools.combinations(dags, 2)
    ]
    assert distances.edit(dags).tolist() == expected


def test_graphs_with_other_nodes_are_not_compared_by_position() -> None:
    with pytest.raises(ValueError, match="same nodes"):
        distances.edit([LabelledDag(("input", "output"), frozenset()), cell(*[NONE] * 6)])


@pytest.mark.parametrize("space", SHAREABLE)
@pytest.mark.parametrize("name", ["hamming", "edit"])
def test_it_is_a_metric(space: str, name: str) -> None:
    tokens_NT, dags = uniform(space, 80)
    # The first one comes again: at zero from itself, and from nothing else.
    d = squareform(
        distances.architecture_distances(np.vstack([tokens_NT, tokens_NT[:1]]), [*dags, dags[0]])[
            name
        ]
    )
    assert (d == d.T).all()
    assert d[0, 80] == 0
    assert (d[:80, :80] + np.eye(80) > 0).all()
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :]).all()


def test_weisfeiler_lehman_by_hand() -> None:
    """input -> a -> output and input -> b -> output, after 0 and 1 iterations."""
    a = LabelledDag(("input", "a", "output"), frozenset({(0, 1), (1, 2)}))
    b = LabelledDag(("input", "b", "output"), frozenset({(0, 1), (1, 2)}))
    assert distances.weisfeiler_lehman([a, b], 0) ** 2 == pytest.approx([2])
    # All three patterns of height 1 differ as well: each has a or b in it.
    assert distances.weisfeiler_lehman([a, b], 1) ** 2 == pytest.approx([2 + 6])


def test_weisfeiler_lehman_knows_directions_and_no_positions() -> None:
    forth = LabelledDag(("a", "b", "a"), frozenset({(0, 1)}))
    back = LabelledDag(("a", "b", "a"), frozenset({(1, 2)}))
    again = LabelledDag(("a", "a", "b"), frozenset({(0, 2)}))
    assert distances.weisfeiler_lehman([forth, again])[0] == 0
    assert distances.weisfeiler_lehman([forth, back])[0] > 0


def test_a_difference_of_depth() -> None:
    assert distances.difference(
        [cell(*[NONE] * 6), cell(*[CONV3] * 6), cell(NONE, NONE, NONE, POOL, NONE, NONE)], "depth"
    ).tolist() == [4, 2, 2]


def test_states_at_right_angles() -> None:
    found = distances.state_distances(np.array([[3.0, 0.0], [0.0, 4.0], [6.0, 0.0]]))
    assert found["euclidean"] == pytest.approx([5, 3, np.sqrt(52)])
    assert found["cosine"] == pytest.approx([1, 0, 1])


@pytest.mark.parametrize("space", SHAREABLE)
def test_all_pairs_of_two_hundred_in_seconds(space: str) -> None:
    tokens_NT, dags = uniform(space, 200)
    start = time.process_time()
    found = distances.architecture_distances(tokens_NT, dags)
    assert time.process_time() - start < 2
    assert all(len(one) == 19_900 for one in found.values())
