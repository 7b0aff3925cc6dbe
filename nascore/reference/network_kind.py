"""The kind of reference networks, which are built by name and are of no search space."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor, nn

from nascore.config import SpaceConfig, SpaceSection
from nascore.genotype import Genotype
from nascore.reference.names import STANDARD
from nascore.reference.networks import build_reference, standard_space
from nascore.spaces.base import ArchitectureGraph, GraphNode, ImageShape, SearchSpace
from nascore.training.network_kinds import NetworkKind

NAME = "reference"


class ReferenceNetwork(nn.Module):
    """A reference network with what it is built from: (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(self, name: str, shape: ImageShape, space: SpaceSection | None = None) -> None:
        super().__init__()
        self.name, self.space = name, space
        self.network = build_reference(name, shape, space=space)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(x_BCHW)
        return logits_BK

    def blueprint(self) -> dict[str, Any]:
        """Return what `ReferenceKind.rebuild` needs."""
        space = None if self.space is None else self.space.model_dump(mode="json")
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
        return ReferenceNetwork(spec["name"], shape, _section(spec))

    def describe(self, spec: Mapping[str, Any], space: SearchSpace, genotype: Genotype) -> str:
        """Return name and origin of a network, and the standard network's architecture."""
        if spec["name"] != STANDARD:
            return f"{spec['name']} of torchvision"
        standard = standard_space(_section(spec))
        return f"standard network: {standard.describe(standard.standard)}"

    def graph(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        genotype: Genotype,
        shape: ImageShape,
    ) -> ArchitectureGraph:
        """Return the standard network's graph; one node for a network of torchvision."""
        if spec["name"] == STANDARD:
            standard = standard_space(_section(spec))
            return standard.graph(standard.standard, shape)
        image = f"{shape.size}×{shape.size}×{shape.channels}"
        nodes = (
            GraphNode("image", "image", "input", image),
            GraphNode("network", spec["name"], "conv", "torchvision"),
            GraphNode("classes", "linear", "output", f"{shape.num_classes} classes"),
        )
        return ArchitectureGraph(nodes, (("image", "network", ""), ("network", "classes", "")))


def _section(spec: Mapping[str, Any]) -> SpaceSection | None:
    """Return the search space of the run that trained a network, which `standard` depends on."""
    if spec["space"] is None:
        return None
    section: SpaceSection = TypeAdapter(SpaceConfig).validate_python(spec["space"])
    return section


def genotype_of(name: str) -> Genotype:
    """Return the genotype that stands for a reference network in the files of a model."""
    return Genotype(f"{NAME}-{name}", ())


KIND = ReferenceKind()
