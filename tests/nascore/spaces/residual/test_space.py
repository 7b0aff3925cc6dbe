"""The residual space: what its tokens mean, and the standard network that it contains."""

import re
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from nascore.spaces.base import ImageShape, make_genotype, sample
from nascore.spaces.flops import count
from nascore.spaces.residual.blocks import BlockShape, Style, make_block, num_params
from nascore.spaces.residual.config import ACTIVATIONS, BLOCKS, NORMS, WIDTHS, ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace

STYLE = Style("batch", "relu")
SHAPE = ImageShape(3, 32, 10)


def params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_standard_network_has_two_basic_blocks_a_stage() -> None:
    space = ResidualSpace(ResidualSpaceConfig())
    described = space.describe(space.standard)
    assert described == "2xbasic3-c16 2xbasic3-c32/2 2xbasic3-c64/2 batch relu"


def test_the_standard_network_has_the_parameters_of_a_resnet_for_cifar() -> None:
    """ResNet-14 with shortcuts of option B: six blocks of two convolutions."""
    space = ResidualSpace(ResidualSpaceConfig())
    network = space.build(space.standard, SHAPE)
    stem = 3 * 16 * 9 + 32
    first = 2 * (2 * 16 * 16 * 9 + 64)
    second = (16 * 32 + 32 * 32) * 9 + 128 + (16 * 32 + 64) + 2 * 32 * 32 * 9 + 128
    third = (32 * 64 + 64 * 64) * 9 + 256 + (32 * 64 + 128) + 2 * 64 * 64 * 9 + 256
    assert params(network) == stem + first + second + third + 64 * 10 + 10


@pytest.mark.parametrize("stride", [1, 2])
def test_a_basic_block_computes_what_torchvisions_does(stride: int) -> None:
    block = make_block("basic", BlockShape(16, 32, stride, 3, squeeze=False), STYLE).eval()
    shortcut = nn.Sequential(nn.Conv2d(16, 32, 1, stride, bias=False), nn.BatchNorm2d(32))
    theirs = BasicBlock(16, 32, stride, shortcut).eval()
    same_function(block, theirs)


def test_a_bottleneck_computes_what_torchvisions_does() -> None:
    block = make_block("bottleneck", BlockShape(64, 64, 1, 3, squeeze=False), STYLE).eval()
    same_function(block, Bottleneck(64, 16).eval())


def same_function(block: nn.Module, theirs: nn.Module) -> None:
    """Copy the weights in the order in which both register them, and compare outputs."""
    theirs.load_state_dict(dict(zip(theirs.state_dict(), block.state_dict().values(), strict=True)))
    channels = next(block.parameters()).shape[1]
    x_BCHW = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x_BCHW), theirs(x_BCHW))


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("stride", "squeeze"), [(1, False), (2, True)])
def test_blocks_have_the_promised_shape(kind: str, stride: int, squeeze: bool) -> None:
    for norm, activation in product(NORMS, ACTIVATIONS):
        shape = BlockShape(16, 24, stride, 5, squeeze)
        block = make_block(kind, shape, Style(norm, activation))
        assert block(torch.randn(2, 16, 9, 9)).shape == (2, 24, -(-9 // stride), -(-9 // stride))


def test_only_plain_blocks_pass_no_gradient_around_their_body() -> None:
    """With a body that answers zeros, the input passes a shortcut."""
    x_BCHW = torch.rand(1, 16, 4, 4)
    for kind in BLOCKS:
        block = make_block(kind, BlockShape(16, 16, 1, 3, squeeze=False), STYLE).eval()
        norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
        nn.init.zeros_(norms[-1].weight)
        assert torch.equal(block(x_BCHW), torch.zeros_like(x_BCHW) if kind == "plain" else x_BCHW)


def test_tokens_change_what_they_name() -> None:
    space = ResidualSpace(ResidualSpaceConfig(num_stages=2, channels=32))
    tokens = [0, 2, 0, 1, 0, 0] * 2 + [0, 0]
    expected = {
        0: "2xbasic3 1xbasic3 batch relu",
        1: "1xbasic3 1xbasic3 batch relu",
        2: "1xbasic5 1xbasic3 batch relu",
        3: "1xbottleneck3 1xbasic3 batch relu",
        4: "1xbasic3-se 1xbasic3 batch relu",
        5: "1xbasic3/2 1xbasic3 batch relu",
        12: "1xbasic3 1xbasic3 group relu",
        13: "1xbasic3 1xbasic3 batch silu",
    }
    for place, text in expected.items():
        changed = [token + (place == i) for i, token in enumerate(tokens)]
        described = space.describe(make_genotype(space, changed))
        assert re.sub(r"-c\d+", "", described) == text


def test_widths_are_in_the_ratio_of_their_tokens() -> None:
    space = ResidualSpace(ResidualSpaceConfig(num_stages=2, channels=64))
    for width, factor in enumerate(WIDTHS):
        tokens = [1, width, 0, 1, 0, 0, 1, WIDTHS.index(1.0), 0, 1, 0, 1, 0, 0]
        first, second = space.stages(make_genotype(space, tokens))
        assert first.channels / second.channels == pytest.approx(factor / 2, abs=0.03)
    equal = [[1, width, 0, 1, 0, 0, 1, width, 0, 1, 0, 1, 0, 0] for width in range(len(WIDTHS))]
    assert len({space.canonical(make_genotype(space, tokens)) for tokens in equal}) == 1


@pytest.mark.parametrize("channels", [8, 16, 64])
def test_all_networks_have_about_the_parameters_of_the_standard_network(channels: int) -> None:
    """The steps of four channels allow no more at the smallest size."""
    space, rng = ResidualSpace(ResidualSpaceConfig(channels=channels)), np.random.default_rng(0)
    standard = params(space.build(space.standard, SHAPE))
    sizes = [params(space.build(sample(space, rng), SHAPE)) / standard for _ in range(30)]
    assert 0.8 < min(sizes) <= max(sizes) < 1.25


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("stride", "squeeze"), [(1, False), (2, True)])
def test_parameters_are_those_of_the_built_block(kind: str, stride: int, squeeze: bool) -> None:
    for shape in (BlockShape(16, 48, stride, 5, squeeze), BlockShape(16, 16, stride, 3, squeeze)):
        assert num_params(kind, shape) == params(make_block(kind, shape, STYLE))


@pytest.mark.parametrize(
    ("size", "first"),
    [(1, 1), (8, 8), (32, 32), (63, 63), (64, 32), (105, 53), (224, 56), (512, 32)],
)
def test_the_stem_brings_large_images_below_64_pixels(size: int, first: int) -> None:
    """The first stage of ResNet-18 has maps of 56 pixels where images have 224."""
    space, shape = (
        ResidualSpace(ResidualSpaceConfig(num_stages=1, channels=8)),
        ImageShape(3, size, 3),
    )
    network = space.build(space.standard, shape).eval()
    assert network.stem(torch.zeros(1, 3, size, size)).shape == (1, 8, first, first)
    assert space.graph(space.standard, shape).nodes[1].detail == f"{first}×{first}×8"


def test_the_drawn_stem_names_its_strides() -> None:
    space = ResidualSpace(ResidualSpaceConfig(num_stages=1, channels=8))
    labels = [
        space.graph(space.standard, ImageShape(3, size, 3)).nodes[1].label for size in (32, 64, 224)
    ]
    assert labels == ["conv 3×3", "conv 3×3 /2", "conv 3×3 /2, pool /2"]


@pytest.mark.parametrize("changes", [{11: 0, 17: 0}, {3: BLOCKS.index("inverted6")}])
def test_networks_far_above_the_cost_of_the_standard_one_are_refused(
    changes: dict[int, int],
) -> None:
    """Those with maps of full size in all stages, and with many depthwise convolutions."""
    space = ResidualSpace(ResidualSpaceConfig(channels=8))
    assert space.refusal(space.standard, SHAPE) is None
    assert space.relative_cost(space.standard, SHAPE) == 1
    tokens = [changes.get(place, token) for place, token in enumerate(space.standard.tokens)]
    costly = make_genotype(space, tokens)
    own, standard = (count(space.build(one, SHAPE), SHAPE) for one in (costly, space.standard))
    factor = own.update_cost / standard.update_cost
    assert factor > 1.5
    assert space.relative_cost(costly, SHAPE) == pytest.approx(factor)
    assert space.refusal(costly, SHAPE) == (
        f"its updates take about {factor:.1f} times as long as those of the standard network, "
        "more than 1.5"
    )
    space.max_cost = factor
    assert space.refusal(costly, SHAPE) is None


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_any_size_of_images(size: int) -> None:
    space = ResidualSpace(ResidualSpaceConfig(num_stages=4, channels=8))
    network = space.build(space.standard, ImageShape(1, size, 3)).eval()
    assert network(torch.randn(2, 1, size, size)).shape == (2, 3)
