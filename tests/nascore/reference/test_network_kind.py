"""Reference networks as a kind: rebuilt, described and drawn without a search space."""

import pytest
import torch

from nascore.reference.network_kind import ReferenceNetwork, genotype_of
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.training.flip_averaging import FlipAveraged
from nascore.training.network_kinds import kind_named, spec_of

SHAPE = ImageShape(1, 8, 10)
SPACE = make_space(ChainSpaceConfig())  # of the run, in which these networks are not


@pytest.mark.parametrize("name", ["standard", "squeezenet1_1"])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_a_network_is_rebuilt_from_its_description(name: str, is_flipped: bool) -> None:
    small = ResidualSpaceConfig(channels=8, num_stages=2)
    reference = ReferenceNetwork(name, SHAPE, small)
    network = FlipAveraged(reference) if is_flipped else reference
    spec, genotype = spec_of(network), genotype_of(name)
    again = kind_named(spec["kind"]).rebuild(spec, SPACE, genotype, SHAPE)
    again.load_state_dict(network.state_dict())
    x_BCHW = torch.randn(2, 1, 8, 8)
    assert torch.equal(again.eval()(x_BCHW), network.eval()(x_BCHW))


@pytest.mark.parametrize("is_flipped", [False, True])
def test_it_is_described_and_drawn(is_flipped: bool) -> None:
    def described(name: str) -> tuple[str, int]:
        network = ReferenceNetwork(name, SHAPE, ResidualSpaceConfig(num_stages=1))
        spec = spec_of(FlipAveraged(network) if is_flipped else network)
        kind, genotype = kind_named(spec["kind"]), genotype_of(name)
        graph = kind.graph(spec, SPACE, genotype, SHAPE)
        assert graph.nodes[0].kind == "input"
        assert graph.nodes[-1].kind == "output"
        return kind.describe(spec, SPACE, genotype), len(graph.nodes)

    assert described("standard") == ("standard network: 2xbasic3-c16 batch relu", 5)
    assert described("squeezenet1_1") == ("squeezenet1_1 of torchvision", 3)
