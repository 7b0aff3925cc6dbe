"""What is particular to the few-shot cells: counting them, growing them, and the published one."""

import itertools
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nascore.errors import GenotypeNotInSpace
from nascore.meta_learning.learners import stateless
from nascore.spaces.base import ImageShape, make_genotype, sample
from nascore.spaces.blocks import Cell
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig, FewShotOperation
from nascore.spaces.fewshot.network import OPS, FewShotNetwork, make_operation
from nascore.spaces.fewshot.space import PUBLISHED, FewShotCellSpace, depth, width
from nascore.spaces.flops import count

SPACE = FewShotCellSpace(FewShotCellSpaceConfig())
PNAS = (
    *("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "conv_1x7_7x1"),
    *("identity", "avg_pool_3x3", "max_pool_3x3", "dil_conv_3x3"),
)
MINI_IMAGENET = ImageShape(3, 84, 5)


def test_one_block_cells_are_all_and_none_twice() -> None:
    """12 ways to read: 144 ordered pairs, 78 without order."""
    cells = SPACE.one_block_cells()
    assert len(cells) == len({SPACE.key(cell) for cell in cells}) == 78
    halves = list(itertools.product(range(2), range(6)))
    every = {SPACE.key((pair,)) for pair in itertools.product(halves, halves)}
    assert {SPACE.key(cell) for cell in cells} == every
    pnas = FewShotCellSpace(FewShotCellSpaceConfig(operations=PNAS))
    assert len(pnas.one_block_cells()) == 16 * 17 // 2


def test_expansions_add_one_block_that_may_read_all_before() -> None:
    cell = SPACE.one_block_cells()[7]
    grown = list(SPACE.expansions(cell))
    assert len(grown) == 18 * 19 // 2
    assert all(bigger[:-1] == cell for bigger in grown)
    assert {node for bigger in grown for node, _ in bigger[-1]} == {0, 1, 2}
    assert not list(SPACE.expansions(PUBLISHED)), "five blocks are the most"


def test_the_order_of_halves_and_blocks_is_no_difference() -> None:
    base: Cell = (((0, 0), (1, 3)), ((1, 1), (1, 1)), ((2, 0), (3, 2)))
    halves: Cell = (base[0][::-1], base[1], base[2][::-1])
    order: Cell = (base[1], base[0], ((3, 0), (2, 2)))
    other: Cell = (base[0], base[1], ((2, 0), (2, 2)))
    assert SPACE.key(base) == SPACE.key(halves) == SPACE.key(order) != SPACE.key(other)


def test_tokens_behind_the_blocks_mean_nothing() -> None:
    rng = np.random.default_rng(0)
    lengths = set()
    for _ in range(50):
        genotype = sample(SPACE, rng)
        cell = SPACE.cell(genotype)
        lengths.add(len(cell))
        assert len(cell) == genotype.tokens[0] + 1
        short = SPACE.genotype(cell)
        assert SPACE.cell(short) == cell
        assert SPACE.canonical(short) == SPACE.canonical(genotype)
        assert SPACE.describe(short) == SPACE.describe(genotype)
    assert lengths == {1, 2, 3, 4, 5}


def test_cells_that_are_none_of_the_space_are_refused() -> None:
    small = FewShotCellSpace(FewShotCellSpaceConfig(max_blocks=2, operations=("conv_3x3",)))
    with pytest.raises(GenotypeNotInSpace):
        SPACE.genotype((((2, 0), (0, 0)),))
    with pytest.raises(GenotypeNotInSpace):
        small.genotype((((0, 0), (0, 0)),) * 3)
    with pytest.raises(ValueError, match="not in tuple"):
        small.genotype((((0, 1), (0, 0)),))


def test_the_published_cell_is_narrow_and_deep() -> None:
    genotype = SPACE.genotype(PUBLISHED)
    assert SPACE.describe(genotype) == (
        "2=conv3(1)+max(1) 3=conv1x5(2)+max(2) 4=conv3(2)+conv1x5(3) 5=conv3(3)+conv3(3) "
        "6=conv1x5(3)+conv3(2)"
    )
    assert depth(PUBLISHED) == 3
    assert width(PUBLISHED) == 3
    wide: Cell = (((0, 0), (1, 0)),) * 4
    assert (depth(wide), width(wide)) == (1, 4)
    chain: Cell = tuple(((node, 0), (0, 0)) for node in range(1, 5))
    assert (depth(chain), width(chain)) == (4, 1)


def test_defaults_are_the_published_sizes() -> None:
    """28 thousand weights, and 94 to 98.7 thousand, on mini-ImageNet."""
    genotype = SPACE.genotype(PUBLISHED)
    small, large = (SPACE.build(genotype, MINI_IMAGENET, phase) for phase in ("search", "final"))
    assert count(small, MINI_IMAGENET).num_params == pytest.approx(28_000, rel=0.03)
    assert count(large, MINI_IMAGENET).num_params == pytest.approx(98_700, rel=0.03)


@pytest.mark.parametrize("size", [4, 7, 28])
def test_every_second_cell_halves_the_map(size: int) -> None:
    network = SPACE.build(SPACE.genotype(PUBLISHED), ImageShape(1, size, 3))
    assert isinstance(network, FewShotNetwork)
    seen: list[tuple[int, ...]] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[1:])))
    assert network(torch.randn(2, 1, size, size)).shape == (2, 3)
    sizes = [size, -(-size // 2), -(-size // 2), -(-size // 4)]
    assert seen == [(7 * 9, s, s) for s in sizes]


def test_a_cell_sums_its_blocks_and_concatenates_all_nodes() -> None:
    identity = OPS.index("identity")
    cell: Cell = (((0, identity), (1, identity)), ((2, identity), (1, identity)))
    config = FewShotCellSpaceConfig(search_channels=4, num_cells=1)
    module = FewShotNetwork(cell, ImageShape(1, 8, 3), config, "search").eval().cells[0]
    x, y = torch.randn(2, 2, 4, 8, 8)
    first, second = module.inputs[0](x), module.inputs[1](y)
    expected = torch.cat([first, second, first + second, first + 2 * second], dim=1)
    torch.testing.assert_close(module(x, y), expected)


@pytest.mark.parametrize("name", get_args(FewShotOperation))
def test_operations_keep_the_shape_and_work_on_many_tasks_at_once(name: str) -> None:
    operation = make_operation(name, 4)
    x = torch.randn(3, 2, 4, 6, 6)
    forward, parameters = stateless(torch.nn.Sequential(operation))
    stacked = {key: torch.stack([p, p + 0.1, p - 0.1]) for key, p in parameters.items()}
    results = torch.vmap(forward)(stacked, x)
    assert results.shape == x.shape
    for i, task in enumerate(x):
        expected = forward({key: p[i] for key, p in stacked.items()}, task)
        torch.testing.assert_close(results[i], expected, atol=1e-4, rtol=1e-4)


def test_the_output_of_a_cell_may_be_its_loose_ends() -> None:
    identity, pool, conv = (OPS.index(name) for name in ("identity", "max_pool_3x3", "conv_3x3"))
    cell: Cell = (
        ((0, identity), (1, pool)),
        ((2, identity), (2, identity)),
        ((1, conv), (1, conv)),
    )
    config = FewShotCellSpaceConfig(search_channels=4, num_cells=2, skeleton="maml")
    space, shape = FewShotCellSpace(config), ImageShape(1, 8, 3)
    first = FewShotNetwork(cell, shape, config, "search").eval().cells[0]
    assert all(isinstance(part, torch.nn.Identity) for part in first.inputs)
    x, y = torch.randn(2, 2, 4, 8, 8)
    two = 2 * (x + torch.nn.functional.max_pool2d(y, 3, stride=1, padding=1))
    three = first.operations[4](y) + first.operations[5](y)
    torch.testing.assert_close(first(x, y), torch.cat([two, three], dim=1))
    edges = space.graph(space.genotype(cell), shape).edges
    sources = {source for source, target, _ in edges if target == "cell-out"}
    assert sources == {"3", "4"}


def test_inputs_that_no_block_reads_have_no_weights_where_loose_ends_are_the_output() -> None:
    chain: Cell = (((1, OPS.index("conv_3x3")), (1, OPS.index("max_pool_3x3"))),)
    config = FewShotCellSpaceConfig(search_channels=4, num_cells=4, skeleton="maml")
    network = FewShotNetwork(chain, ImageShape(1, 8, 3), config, "search")
    network(torch.randn(2, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("skeleton", ["pnas", "maml"])
@pytest.mark.parametrize("size", [2, 7, 11, 28])
@pytest.mark.parametrize(("stem_stride", "num_cells"), [(1, 4), (2, 1), (2, 4)])
def test_the_last_layer_reads_means_or_every_position(
    skeleton: Literal["pnas", "maml"], size: int, stem_stride: Literal[1, 2], num_cells: int
) -> None:
    config = FewShotCellSpaceConfig(
        search_channels=3, skeleton=skeleton, stem_stride=stem_stride, num_cells=num_cells
    )
    network = FewShotNetwork(PUBLISHED[:2], ImageShape(1, size, 5), config, "search").eval()
    seen: list[torch.Tensor] = []
    network.head.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    logits = network(torch.randn(2, 1, size, size))
    read = seen[0].relu().flatten(1) if skeleton == "maml" else seen[0].relu().mean(dim=(2, 3))
    torch.testing.assert_close(logits, network.head[-1](read))


@pytest.mark.parametrize(("skeleton", "sizes"), [("maml", [14, 7, 3]), ("pnas", [14, 7, 7])])
def test_each_cell_or_every_second_one_halves_the_map(
    skeleton: Literal["pnas", "maml"], sizes: list[int]
) -> None:
    config = FewShotCellSpaceConfig(
        skeleton=skeleton, stem_stride=2, num_cells=3, search_channels=3
    )
    network = FewShotNetwork(PUBLISHED[:1], ImageShape(1, 28, 5), config, "search").eval()
    seen: list[int] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[-1]))
    network(torch.randn(2, 1, 28, 28))
    assert seen == sizes


def test_identifier_says_which_operations_there_are() -> None:
    sets = [get_args(FewShotOperation)[:6], PNAS, ("dil_conv_3x3",), ("conv_1x5_5x1", "conv_3x3")]
    names = {
        FewShotCellSpace(FewShotCellSpaceConfig(operations=chosen)).identifier for chosen in sets
    }
    assert names == {
        "fewshot-cell-5",
        "fewshot-cell-5-ops6789543a",
        "fewshot-cell-5-opsa",
        "fewshot-cell-5-ops10",
    }


def test_tokens_follow_the_order_of_the_operations() -> None:
    space = FewShotCellSpace(FewShotCellSpaceConfig(operations=PNAS, max_blocks=1))
    assert space.describe(make_genotype(space, (0, 1, 0, 0, 3))) == "2=sep3(1)+conv1x7(0)"


def test_no_operations_and_no_blocks_are_refused() -> None:
    with pytest.raises(ValidationError, match="no block can be made"):
        FewShotCellSpaceConfig(operations=())
    with pytest.raises(ValidationError, match="several times"):
        FewShotCellSpaceConfig(operations=("identity", "identity"))
    with pytest.raises(ValidationError, match="max_blocks"):
        FewShotCellSpaceConfig(max_blocks=0)


def test_a_stem_of_stride_two_leaves_a_quarter_of_the_work() -> None:
    shape, cell = ImageShape(1, 28, 5), PUBLISHED[:2]
    whole, half = (
        FewShotCellSpace(
            FewShotCellSpaceConfig(search_channels=4, num_cells=2, stem_stride=stride)
        ).build(SPACE.genotype(cell), shape)
        for stride in (1, 2)
    )
    costs = [count(network, shape) for network in (whole, half)]
    assert costs[0].num_params == costs[1].num_params
    assert costs[1].macs == pytest.approx(costs[0].macs / 4, rel=0.02)
    config = FewShotCellSpaceConfig(stem_stride=2, num_cells=1, search_channels=3)
    space = FewShotCellSpace(config)
    genotype = space.genotype(cell)
    network = space.build(genotype, shape)
    assert isinstance(network, FewShotNetwork)
    assert network.stem(torch.zeros(1, 1, 28, 28)).shape == (1, 3, 14, 14)
    assert "stride 2" in space.graph(genotype, shape).nodes[0].detail


@pytest.mark.parametrize(("size", "sizes"), [(28, [14, 7, 3, 1]), (4, [2, 1, 1, 1])])
def test_maps_are_halved_by_max_pools(size: int, sizes: list[int]) -> None:
    config = FewShotCellSpaceConfig(skeleton="maml", stem_stride=2, num_cells=4, search_channels=3)
    space, shape = FewShotCellSpace(config), ImageShape(1, size, 5)
    genotype = space.genotype(PUBLISHED[:1])
    network = space.build(genotype, shape).eval()
    assert isinstance(network, FewShotNetwork)
    seen: list[torch.Tensor] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _m, inputs, out: seen.extend([inputs[1], out]))
    x = torch.randn(2, 1, size, size)
    assert network(x).shape == (2, 5)
    assert [part.shape[-1] for part in seen[1::2]] == sizes
    newer, before = seen[2], seen[1]
    expected = torch.nn.functional.max_pool2d(before, 2)
    torch.testing.assert_close(newer, expected)
    stem = torch.nn.functional.max_pool2d(network.stem[:2](x).relu(), 2)
    torch.testing.assert_close(seen[0], stem)
    assert "max pool 2×2" in space.graph(genotype, shape).nodes[0].detail
