"""Residual networks whose stages differ in depth, width, kernel, block and resolution.

A network is a 3x3 stem, `num_stages` stages of equal blocks, global average pooling and a linear
layer. A stage has six tokens, each the place of a value in a list of
`nascore.spaces.residual.config`: number of blocks minus one, width, kernel size, kind of block,
squeeze-and-excitation (0 or 1), stride of its first block. Two more tokens choose normalisation and
activation of the whole network.

The standard width of stage s (from 0) is `channels` * 2^s, as in ResNet (arXiv 1512.03385); all
widths are multiples of four. `standard` is the network that an engineer would try first: two basic
blocks a stage, 3x3, batch normalisation, ReLU, resolution halved from the second stage on. A search
leaves out networks of more than `max_cost` times its parameters or multiply-adds: some have ten
times as many, for which a wider standard network would be the fair comparison.

It works for any size of images. The stem halves the maps until they are smaller than 64 pixels,
first by the stride of its convolution, then by pooling, as in ResNet: from images of 224 pixels the
first stage gets maps of 56 pixels. Images below 64 pixels keep their size. Convolutions are padded,
so a map of one pixel stays one pixel.

This space is our own: its values are those in which ResNet, MobileNetV2 and their successors differ
(compare RegNet, arXiv 2003.13678, which searches depth, width and groups).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from nascore.genotype import Genotype
from nascore.spaces.base import (
    ArchitectureGraph,
    GraphNode,
    ImageShape,
    Phase,
    check,
    make_genotype,
)
from nascore.spaces.flops import Cost, count
from nascore.spaces.residual.blocks import BlockShape, Style, conv_norm, make_block, rounded
from nascore.spaces.residual.config import (
    ACTIVATIONS,
    BLOCKS,
    KERNELS,
    NORMS,
    STRIDES,
    WIDTHS,
    ResidualSpaceConfig,
)

_TOKENS_OF_STAGE = 6
_STEM_KERNEL = 3
_STEM_MAP = 64  # pixels; the maps of the first stage are smaller


@dataclass(frozen=True, slots=True)
class Stage:
    """Values of one stage: number of blocks, channels, kernel in pixels, stride of the first."""

    depth: int
    channels: int
    kernel: int
    block: str
    squeeze: bool
    stride: int

    def __str__(self) -> str:
        squeeze = "-se" if self.squeeze else ""
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.depth}x{self.block}{self.kernel}{squeeze}-c{self.channels}{stride}"


class ResidualSpace:
    """`SearchSpace` of residual networks; see the module text."""

    def __init__(self, config: ResidualSpaceConfig) -> None:
        self.config = config
        self.identifier = f"residual-{config.num_stages}x{config.max_depth}-c{config.channels}"
        self.cardinalities = config.cardinalities

    @property
    def standard(self) -> Genotype:
        """The standard residual network of this size."""
        stages = [
            (1, WIDTHS.index(1.0), KERNELS.index(3), BLOCKS.index("basic"), 0, int(stage > 0))
            for stage in range(self.config.num_stages)
        ]
        whole = (NORMS.index("batch"), ACTIVATIONS.index("relu"))
        return make_genotype(self, [token for stage in stages for token in stage] + list(whole))

    def stages(self, genotype: Genotype) -> tuple[Stage, ...]:
        """Return the values of each stage.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        check(self, genotype)
        stages = []
        for place in range(self.config.num_stages):
            first = place * _TOKENS_OF_STAGE
            depth, width, kernel, block, squeeze, stride = genotype.tokens[
                first : first + _TOKENS_OF_STAGE
            ]
            channels = rounded(self.config.channels * 2**place * WIDTHS[width])
            stages.append(
                Stage(
                    depth=depth + 1,
                    channels=channels,
                    kernel=KERNELS[kernel],
                    block=BLOCKS[block],
                    squeeze=bool(squeeze),
                    stride=STRIDES[stride],
                )
            )
        return tuple(stages)

    def style(self, genotype: Genotype) -> Style:
        """Return normalisation and activation of the network."""
        norm, activation = genotype.tokens[-2:]
        return Style(NORMS[norm], ACTIVATIONS[activation])

    def canonical(self, genotype: Genotype) -> str:
        """Return a key that is equal for equal networks: widths can be the same after rounding."""
        return self.describe(genotype)

    def describe(self, genotype: Genotype) -> str:
        """Return `2xbasic3-c16 2xbasic3-c32/2 ... batch relu`."""
        stages, style = self.stages(genotype), self.style(genotype)
        return " ".join([*map(str, stages), style.norm, style.activation])

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        """Return a network with initial weights; that of both phases is the same."""
        stages, style = self.stages(genotype), self.style(genotype)
        return ResidualNetwork(stages, style, shape, rounded(self.config.channels))

    def refusal(self, genotype: Genotype, shape: ImageShape) -> str | None:
        """Return which cost of a network is above `max_cost`, if one is."""
        if self.config.max_cost is None:
            return None
        own, standard = self._cost(genotype, shape), self._cost(self.standard, shape)
        for figure, name in (("num_params", "parameters"), ("macs", "multiply-adds")):
            factor = getattr(own, figure) / getattr(standard, figure)
            if factor > self.config.max_cost:
                return (
                    f"{factor:.1f} times the {name} of the standard network, more than "
                    f"search.space.max_cost={self.config.max_cost:g}"
                )
        return None

    def _cost(self, genotype: Genotype, shape: ImageShape) -> Cost:
        with torch.device("meta"):  # no memory, no arithmetic
            return count(self.build(genotype, shape), shape)

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Return all blocks, from top to bottom."""
        size, channels = shape.size, rounded(self.config.channels)
        image = f"{size}×{size}×{shape.channels}"
        halvings = _stem_halvings(size)
        for _ in range(halvings):
            size = math.ceil(size / 2)
        nodes = [
            GraphNode("image", "image", "input", image),
            GraphNode("stem", _stem_label(halvings), "conv", f"{size}×{size}×{channels}"),
        ]
        for number, (stage, stride) in enumerate(_blocks(self.stages(genotype))):
            size = math.ceil(size / stride)
            squeeze = " + squeeze-excite" if stage.squeeze else ""
            kind = "separable" if stage.block.startswith("inverted") else "conv"
            label = f"{stage.block} {stage.kernel}×{stage.kernel}{squeeze}"
            detail = f"{size}×{size}×{stage.channels}"
            nodes.append(GraphNode(f"block{number}", label, kind, detail))
        style = self.style(genotype)
        end = f"{style.norm} norm, {style.activation}"
        nodes.append(GraphNode("classes", "average, linear", "output", end))
        edges = [(a.id, b.id, "") for a, b in pairwise(nodes)]
        return ArchitectureGraph(tuple(nodes), tuple(edges))


class ResidualNetwork(nn.Module):
    """One architecture: (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(
        self, stages: tuple[Stage, ...], style: Style, shape: ImageShape, stem_channels: int
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_stem(shape, stem_channels, style))
        self.blocks = nn.ModuleList()
        channels = stem_channels
        for stage, stride in _blocks(stages):
            block = BlockShape(channels, stage.channels, stride, stage.kernel, stage.squeeze)
            self.blocks.append(make_block(stage.block, block, style))
            channels = stage.channels
        self.head = nn.Linear(channels, shape.num_classes)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stem(x_BCHW)
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        logits_BK: Tensor = self.head(x_BCHW.mean(dim=(2, 3)))
        return logits_BK


def _stem(shape: ImageShape, channels: int, style: Style) -> list[nn.Module]:
    """Return the layers in front of the first stage."""
    halvings = _stem_halvings(shape.size)
    stride = 2 if halvings else 1
    layers = conv_norm((shape.channels, channels), _STEM_KERNEL, style, stride=stride)
    pooling = (nn.MaxPool2d(3, stride=2, padding=1) for _ in range(halvings - 1))
    return [*layers, style.make_activation(), *pooling]


def _stem_halvings(size: int) -> int:
    """Return how often the stem halves maps of `size` pixels, rounding up."""
    halvings = 0
    while size >= _STEM_MAP:
        size, halvings = math.ceil(size / 2), halvings + 1
    return halvings


def _stem_label(halvings: int) -> str:
    """Return `conv 3×3`, `conv 3×3 /2` or `conv 3×3 /2, pool /2`."""
    return f"conv 3×3{' /2' * (halvings > 0)}" + ", pool /2" * (halvings - 1)


def _blocks(stages: tuple[Stage, ...]) -> Iterator[tuple[Stage, int]]:
    """Yield the stage and the stride of each block, in order."""
    for stage in stages:
        for number in range(stage.depth):
            yield stage, stage.stride if number == 0 else 1
