"""Networks whose logits are scaled."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nascore.genotype import Genotype
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.training.network_kinds import NetworkKind


class Scaled(nn.Module):
    """Twice the logits of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = 2 * self.network(x_BCHW)
        return logits_BK

    def blueprint(self) -> dict[str, Any]:
        return {"kind": "scaled"}


class ScaledKind(NetworkKind):
    """Rebuilds such networks; all else is that of static networks."""

    def rebuild(
        self, spec: Mapping[str, Any], space: SearchSpace, genotype: Genotype, shape: ImageShape
    ) -> nn.Module:
        return Scaled(super().rebuild(spec, space, genotype, shape))


KIND = ScaledKind()
