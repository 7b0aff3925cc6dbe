"""The kind of reference networks, which are built by name and are of no search space."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor, nn

from nascore.config import SpaceConfig, SpaceSection
from nascore.genotype import Genotype
from nascore.reference.networks import build_reference
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.training.network_kinds import NetworkKind

NAME = "reference"


class ReferenceNetwork(nn.Module):
    """A reference network with what it is built from: (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(self, name: str, shape: ImageShape, space: SpaceSection | None = None) -> None:
        super().__init__()
        self.name, self._space = name, space
        self.network = build_reference(name, shape, space=space)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(x_BCHW)
        return logits_BK

    def blueprint(self) -> dict[str, Any]:
        """Return what `ReferenceKind.rebuild` needs."""
        space = None if self._space is None else self._space.model_dump(mode="json")
        return {"kind": NAME, "name": self.name, "space": space}


class ReferenceKind(NetworkKind):
    """Kind of `ReferenceNetwork`."""

    def rebuild(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        genotype: Genotype,
        shape: ImageShape,
    ) -> nn.Module:
        section = spec["space"]
        if section is not None:
            section = TypeAdapter(SpaceConfig).validate_python(section)
        return ReferenceNetwork(spec["name"], shape, section)


def genotype_of(name: str) -> Genotype:
    """Return the genotype that stands for a reference network in the files of a model."""
    return Genotype(f"{NAME}-{name}", ())


KIND = ReferenceKind()
