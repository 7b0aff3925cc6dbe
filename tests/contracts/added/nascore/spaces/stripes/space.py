"""The space: width and depth of a plain convolutional network."""

from nascore.spaces.stripes.config import StripesConfig
from torch import nn

from nascore.genotype import Genotype
from nascore.spaces.base import ImageShape, check
from nascore.spaces.drawing import ArchitectureGraph, GraphNode


class StripesSpace:
    """Tokens: width, depth."""

    identifier = "stripes"

    def __init__(self, config: StripesConfig) -> None:
        self.config, self.cardinalities = config, config.cardinalities

    def canonical(self, genotype: Genotype) -> str:
        return self.describe(genotype)

    def describe(self, genotype: Genotype) -> str:
        check(self, genotype)
        return "-".join(map(str, genotype.tokens))

    def build(self, genotype: Genotype, shape: ImageShape, phase: str = "search") -> nn.Module:
        check(self, genotype)
        width, depth = genotype.tokens
        layers: list[nn.Module] = []
        channels = shape.channels
        for _ in range(depth + 1):
            layers += [nn.Conv2d(channels, 2 + width, 3, padding=1), nn.ReLU()]
            channels = 2 + width
        pool = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, shape.num_classes)]
        return nn.Sequential(*layers, *pool)

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        nodes = (GraphNode("in", "image", "input"), GraphNode("out", "classes", "output"))
        return ArchitectureGraph(nodes, (("in", "out", ""),))
