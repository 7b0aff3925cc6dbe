"""A path through the supernet is the network of its genotype, on shared weights."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_

from nascore import spaces
from nascore.child import build_network
from nascore.config import Cell201SpaceConfig, ChainSpaceConfig
from nascore.genotype import Genotype
from nascore.spaces import ImageShape, make_space
from nascore.supernet import Supernet, make_supernet

SHAPE = ImageShape(1, 8, 10)
SPACE = make_space(Cell201SpaceConfig(search_channels=4))


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return make_supernet(SPACE, SHAPE, seed=0)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def genotype(*tokens: int) -> Genotype:
    return spaces.make_genotype(SPACE, tokens)


def weights(network: nn.Module) -> set[int]:
    return {id(parameter) for parameter in network.parameters()}


def test_a_path_computes_what_its_network_does(supernet: Supernet, images: Tensor) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        one = spaces.sample(SPACE, rng)
        path = supernet.path(one)
        alone = build_network(SPACE, one, SHAPE, seed=7)
        replace_all_batch_norm_modules_(alone)
        assert not torch.equal(path(images), alone(images))
        alone.load_state_dict(path.state_dict())
        assert torch.equal(path(images), alone(images))


def test_gradients_reach_the_path_alone(supernet: Supernet, images: Tensor) -> None:
    supernet.zero_grad()
    path = supernet.path(genotype(3, 3, 0, 2, 1, 4))
    path(images).square().mean().backward()
    on_path = weights(path)
    for parameter in supernet.parameters():
        assert (parameter.grad is not None) == (id(parameter) in on_path)
    assert on_path < weights(supernet), "and there is more than the path"


def test_two_paths_share_what_they_have_in_common(supernet: Supernet) -> None:
    one, other = (
        supernet.path(genotype(3, 3, 3, 3, 3, 3)),
        supernet.path(genotype(3, 2, 2, 2, 2, 2)),
    )
    common = weights(one) & weights(other)
    plain = supernet.path(genotype(0, 0, 0, 0, 0, 0))
    first_edge = supernet.path(genotype(3, 0, 0, 0, 0, 0))
    assert common == weights(first_edge)
    assert weights(plain) < common


def test_every_path_is_covered(supernet: Supernet) -> None:
    seen: set[int] = set()
    rng = np.random.default_rng(1)
    for _ in range(60):
        seen |= weights(supernet.path(spaces.sample(SPACE, rng)))
    assert seen == weights(supernet)


def test_a_path_is_judged_by_the_batch_it_sees(supernet: Supernet, images: Tensor) -> None:
    path = supernet.path(genotype(3, 3, 3, 3, 3, 3))
    before = path.eval()(images)
    path.train()(10 * images)  # running averages would remember this
    assert torch.equal(path.eval()(images), before)
    assert not list(supernet.buffers())


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = make_supernet(SPACE, SHAPE, seed=5)
    state = torch.get_rng_state()
    other = make_supernet(SPACE, SHAPE, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_space_without_shared_weights_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot share weights"):
        make_supernet(make_space(ChainSpaceConfig()), SHAPE, seed=0)
