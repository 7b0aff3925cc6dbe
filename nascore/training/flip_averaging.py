"""Test-time flip: a network that averages its logits over an image and its mirror image.

It is a kind of network of its own, so that latency, size, export and registry are those of what is
shipped: two forward passes an image.

B images, C channels, H = W pixels, K classes.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nascore.config import TrainingConfig
from nascore.genotype import Genotype
from nascore.spaces.base import ArchitectureGraph, ImageShape, SearchSpace
from nascore.training.network_kinds import NetworkKind, kind_named, spec_of

_KINDS = ("static", "reference")  # with one output, and fixed classes


class FlipAveraged(nn.Module):
    """(B, C, H, W) -> mean of the logits (B, K) of an image and its mirror image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(x_BCHW) + self.network(x_BCHW.flip(3))
        return logits_BK / 2

    def blueprint(self) -> dict[str, Any]:
        """Return the JSON from which the network is built, besides its genotype."""
        return {"kind": "flip-averaged", "network": spec_of(self.network)}


class FlipAveragedKind(NetworkKind):
    """Kind of networks with a test-time flip."""

    def rebuild(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        genotype: Genotype,
        shape: ImageShape,
    ) -> nn.Module:
        """Return a network whose weights are to be loaded; see `NetworkKind.rebuild`."""
        inner = spec["network"]
        return FlipAveraged(kind_named(inner["kind"]).rebuild(inner, space, genotype, shape))

    def describe(self, spec: Mapping[str, Any], space: SearchSpace, genotype: Genotype) -> str:
        """Return the architecture of the network that is averaged."""
        inner = spec["network"]
        return kind_named(inner["kind"]).describe(inner, space, genotype)

    def graph(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        genotype: Genotype,
        shape: ImageShape,
    ) -> ArchitectureGraph:
        """Return the graph of the network that is averaged."""
        inner = spec["network"]
        return kind_named(inner["kind"]).graph(inner, space, genotype, shape)


KIND = FlipAveragedKind()


def flip_averaged(network: nn.Module, config: TrainingConfig) -> nn.Module:
    """Return a trained network as the recipe ships it: with a test-time flip, or unchanged.

    Args:
        network: trained.
        config: `test_time_flip` has no effect without `flip`, whose images are not mirrored, and on
            networks with several outputs.
    """
    has_flip = config.test_time_flip and config.flip
    if not has_flip or spec_of(network)["kind"] not in _KINDS:
        return network
    return FlipAveraged(network)
