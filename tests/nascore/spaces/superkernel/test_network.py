"""Networks of the superkernel space."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nascore.genotype import Genotype
from nascore.spaces.base import ImageShape
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.network import (
    Convolution,
    Output,
    StackedNetwork,
    make_operation,
)
from nascore.spaces.superkernel.space import SuperkernelSpace

GREY = ImageShape(1, 8, 10)
SPACE = SuperkernelSpace(SuperkernelSpaceConfig())
SMALL = SuperkernelSpace(SuperkernelSpaceConfig(num_nodes=2, num_stages=1, search_channels=4))
CONV, MAX, AVG, IDENTITY, NONE = ((branch, 0, 0, 0, 0) for branch in range(5))
SEP_3X5_D2 = (0, 1, 1, 2, 1)
STD_7X1_D1 = (0, 0, 3, 0, 0)


def small(
    edges: tuple[tuple[int, ...], ...], kept: tuple[int, int] = (0, 1), space: Any = SMALL
) -> Genotype:
    """A cell of two nodes: the edges into the first, then the three into the second."""
    return space.genotype(edges, [(0, 1), kept] * len(space.cell_names))


def images(shape: ImageShape, number: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, shape.channels, shape.size, shape.size, generator=generator)


@pytest.mark.parametrize("one", SPACE.convolutions()[::5], ids=lambda one: one.name)
def test_operations_are_plain_convolutions_that_keep_the_map(one: Convolution) -> None:
    module = make_operation(one, 6, affine=False)
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert layers[0].kernel_size == (one.height, one.width)
    assert layers[0].dilation == (one.dilation, one.dilation)
    assert [layer.groups for layer in layers] == ([1] if one.kind == "standard" else [6, 1])
    x_BCHW = torch.randn(2, 6, 9, 9)
    assert module(x_BCHW).shape == x_BCHW.shape
    assert isinstance(module[0], nn.ReLU)
    assert isinstance(module[-1], nn.BatchNorm2d)


def test_a_network_has_the_operations_of_its_genotype() -> None:
    network = SMALL.build(small((SEP_3X5_D2, NONE, STD_7X1_D1, MAX, AVG), kept=(0, 1)), GREY)
    sizes = [
        tuple(layer.weight.shape)
        for layer in network.cells[0].operations.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    assert sizes == [(4, 1, 3, 5), (4, 4, 1, 1), (4, 4, 7, 1)]


def test_darts_has_eight_cells_and_doubles_the_channels() -> None:
    config = SuperkernelSpaceConfig(search_cells_per_stage=2, search_channels=16)
    stack = SuperkernelSpace(config).plans()
    assert [plan.is_reduction for plan in stack] == [False, False, True, False, False, True] + [
        False
    ] * 2
    assert [plan.nodes for plan in stack] == [Output(16, 0)] * 2 + [Output(32, 1)] * 3 + [
        Output(64, 2)
    ] * 3
    assert stack[3].inputs == (Output(64, 0), Output(128, 1))


@pytest.mark.parametrize("size", [4, 5, 7, 33])
def test_maps_of_any_size_are_halved(size: int) -> None:
    shape = ImageShape(5, size, 3)
    genotype = SPACE.genotype([SEP_3X5_D2] * 28, [(0, 1)] * 8)
    network = SPACE.build(genotype, shape).eval()
    seen: list[tuple[int, ...]] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[1:])))
    assert network(images(shape)).shape == (3, 3)
    sizes = [size, -(-size // 2), -(-size // 2), -(-size // 4), -(-size // 4)]
    channels = [32, 64, 64, 128, 128]
    assert seen == [(c, s, s) for c, s in zip(channels, sizes, strict=True)]


def test_cells_that_nothing_reads_are_left_out() -> None:
    """Normal and reduction cells that read the older input alone: every other cell is for none."""
    space = SuperkernelSpace(SuperkernelSpaceConfig(num_nodes=1, search_cells_per_stage=2))
    genotype = space.genotype([CONV, NONE] * 2, [(0, 1)] * 2)
    network = space.build(genotype, GREY)
    assert isinstance(network, StackedNetwork)
    assert network.places == [1, 3, 5, 7]
    network(images(GREY)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_node_without_an_edge_is_zero_and_all_weights_get_gradients() -> None:
    network = SMALL.build(small((NONE, NONE, CONV, NONE, NONE), kept=(0, 2)), GREY)
    out: list[Tensor] = []
    network.cells[0].register_forward_hook(lambda _m, _i, o: out.append(o))
    network(images(GREY)).sum().backward()
    assert not out[0][:, :4].any()
    assert out[0][:, 4:].any()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_batch_norms_scale_in_final_training_alone() -> None:
    genotype = small((CONV, SEP_3X5_D2, STD_7X1_D1, MAX, AVG))
    for phase in ("search", "final"):
        operations = SMALL.build(genotype, GREY, phase).cells[0].operations
        norms = [m for m in operations.modules() if isinstance(m, nn.BatchNorm2d)]
        assert [norm.affine for norm in norms[:3]] == [phase == "final"] * 3
