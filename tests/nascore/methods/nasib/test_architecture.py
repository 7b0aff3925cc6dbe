"""The arg-max architecture of a distribution."""

import pytest
import torch

from nascore.methods.nasib.distribution import Distribution
from nascore.spaces.base import ImageShape, check
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace

SPACE = SuperkernelSpace(SuperkernelSpaceConfig())
LARGE, SMALL = ImageShape(3, 32, 10), ImageShape(1, 8, 10)
CONV, MAX, AVG, IDENTITY, NONE = range(5)
NUM_EDGES = len(SPACE.edges)
NOBODY, EVERYBODY = torch.zeros(NUM_EDGES, dtype=torch.bool), torch.ones(NUM_EDGES) > 0


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learned(shape: ImageShape = LARGE, *, seed: int = 0) -> Distribution:
    """With logits as if it had learned something."""
    distribution = Distribution(SPACE, shape)
    torch.nn.init.normal_(distribution.logits_ES, generator=generator(seed))
    return distribution


def test_there_is_an_architecture_at_any_time() -> None:
    for shape in (LARGE, SMALL):
        fresh, late = Distribution(SPACE, shape), learned(shape, seed=4)
        for axis in AXES:
            late.eliminate(axis, 1)
        for distribution in (fresh, learned(shape), late):
            check(SPACE, distribution.genotype())


def test_a_node_keeps_its_two_strongest_edges() -> None:
    distribution = Distribution(SPACE, LARGE)
    place = {(e.cell, e.target, e.source): i for i, e in enumerate(SPACE.edges)}
    with torch.no_grad():
        distribution.logits_ES[:, NONE] = 20.0  # the most probable, and never kept as such
        distribution.logits_ES[place[0, 4, 1], IDENTITY] = 22.0
        distribution.logits_ES[place[0, 4, 3], MAX] = 21.0
        distribution.logits_ES[place[0, 4, 2], AVG] = 19.0
        distribution.logits_ES[place[1, 5, 4], CONV] = 18.0
        distribution.logits_ES[place[1, 5, 4], 7 + 2] = 3.0  # height 5
    normal, reduction = SPACE.cells(distribution.genotype())
    assert normal[2] == ((1, "identity"), (3, "max_pool_3x3"))
    strongest = dict(reduction[3])[4]
    assert not isinstance(strongest, str)
    assert (strongest.height, strongest.width) == (5, 1)


def test_an_edge_that_is_nothing_is_kept_last() -> None:
    distribution = Distribution(SPACE, LARGE)
    with torch.no_grad():
        distribution.logits_ES[2, NONE] = 9.0
    for num_left in (5, 1):
        distribution.eliminate("branch", num_left)
        assert not distribution.alive_ES[2, NONE] or num_left == 5
        (_, second, *_), _ = SPACE.cells(distribution.genotype())
        assert [source for source, _ in second] == [1, 2], "of its three edges"


def test_the_strongest_edges_are_kept_when_one_branch_is_left() -> None:
    """Then every edge is sure of its branch; what it was chosen against still tells them apart."""
    distribution = Distribution(SPACE, LARGE)
    with torch.no_grad():
        distribution.logits_ES[:, CONV] = torch.arange(len(SPACE.edges)) / 10
    distribution.eliminate("branch", 1)
    for cell in SPACE.cells(distribution.genotype()):
        for target, node in enumerate(cell, start=2):
            assert [source for source, _ in node] == [target - 2, target - 1]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_few_edges_of_a_cell_end_without_a_convolution(limit: int) -> None:
    """Those that want one least, in the end as at any time before."""
    distribution = Distribution(SPACE, LARGE, max_parameterless_edges=limit)
    with torch.no_grad():
        distribution.logits_ES[:, IDENTITY] = 3.0
        for edge in (0, 1, 4):
            distribution.logits_ES[edge, MAX] = 6.0
    expected = {0, 1, 4} if limit == 3 else None
    for num_left in (5, 3, 1):
        distribution.eliminate("branch", num_left)
        normal = SPACE.edge_tokens(distribution.genotype())[: len(SPACE.edges) // 2]
        without = {edge for edge, tokens in enumerate(normal) if tokens[0] != CONV}
        assert len(without) == limit
        assert expected in (None, without)
