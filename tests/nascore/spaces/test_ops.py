"""Blocks against plain functions, and their shapes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nascore.spaces import ops


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_convolutions_keep_the_size_and_halve_it_rounding_up(kernel: int, size: int) -> None:
    x_BCHW = torch.randn(2, 3, size, size)
    assert ops.conv(3, 4, kernel)(x_BCHW).shape == (2, 4, size, size)
    half = (size + 1) // 2
    assert ops.conv(3, 4, kernel, stride=2)(x_BCHW).shape == (2, 4, half, half)


def test_convolutions_start_he_normal_without_bias() -> None:
    layer = ops.conv(64, 128, 3)
    assert layer.bias is None
    assert layer.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    depthwise = ops.conv(2000, 2000, 3, groups=2000)
    assert depthwise.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.02)


def test_separable_is_depthwise_then_pointwise() -> None:
    layer = ops.separable(3, 5, 3)
    x_BCHW = torch.randn(2, 3, 6, 6)
    depthwise, pointwise = layer[0].weight, layer[1].weight
    full = torch.einsum("oc,chw->ochw", pointwise[:, :, 0, 0], depthwise[:, 0])
    torch.testing.assert_close(layer(x_BCHW), F.conv2d(x_BCHW, full, padding=1))


def test_conv_block_is_two_activated_convolutions() -> None:
    block = ops.conv_block(3, 4, 5).eval()
    x_BCHW = torch.randn(2, 3, 6, 6)
    inner = F.conv2d(x_BCHW.relu(), block[1].weight) / (1 + 1e-5) ** 0.5
    outer = F.conv2d(inner.relu(), block[4].weight, padding=2) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x_BCHW), outer)


def test_separable_block_repeats_1x1_and_kxk() -> None:
    block = ops.separable_block(3, 4, 5)
    kinds = [type(module).__name__ for module in block]
    assert kinds == ["ReLU", "Sequential", "BatchNorm2d"] * 4
    kernels = [module[0].kernel_size[0] for module in block if isinstance(module, nn.Sequential)]
    assert kernels == [1, 5, 1, 5]
    assert block(torch.randn(2, 3, 6, 6)).shape == (2, 4, 6, 6)


def test_separable_twice_is_two_activated_separable_convolutions() -> None:
    block = ops.separable_twice(3, 5)
    kinds = [type(module).__name__ for module in block]
    assert kinds == ["ReLU", "Sequential", "BatchNorm2d"] * 2
    assert [block[i][0].kernel_size for i in (1, 4)] == [(5, 5)] * 2
    assert block(torch.randn(2, 3, 1, 1)).shape == (2, 3, 1, 1)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_factorised_reduction_halves_the_map_rounding_up(size: int) -> None:
    half = (size + 1) // 2
    assert ops.FactorisedReduction(3, 5)(torch.randn(2, 3, size, size)).shape == (2, 5, half, half)


def test_factorised_reduction_sees_even_and_odd_places() -> None:
    block = ops.FactorisedReduction(3, 4).eval()
    x_BCHW = torch.randn(2, 3, 6, 6)
    active = x_BCHW.relu()
    halves = [
        torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], active[:, :, i::2, i::2])
        for i, conv in enumerate((block.even, block.odd))
    ]
    expected = torch.cat(halves, dim=1) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x_BCHW), expected)


def test_blocks_do_not_change_their_input() -> None:
    """A layer's output is also read by shortcuts, so no block may activate it in place."""
    x_BCHW = torch.randn(2, 3, 6, 6)
    before = x_BCHW.clone()
    for block in (
        ops.conv_block(3, 4, 3),
        ops.separable_block(3, 4, 3),
        ops.relu_conv_bn(3, 4, 3),
        ops.separable_twice(3, 3),
        ops.FactorisedReduction(3, 4),
    ):
        block(x_BCHW)
        assert torch.equal(x_BCHW, before)


def test_sum_adds_body_and_shortcut() -> None:
    x_BCHW = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ops.Sum(nn.Identity(), nn.ReLU())(x_BCHW), x_BCHW + x_BCHW.relu())


def test_evaluation_mode_gives_every_module_its_mode_back() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.ReLU(), nn.Dropout()))
    network[0].eval()  # a frozen batch norm inside a network in training
    before = [module.training for module in network.modules()]
    with ops.evaluation_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before
