"""Residual networks whose stages differ in depth, width, kernel, block and resolution.

A network is a 3x3 stem, `num_stages` stages of equal blocks, global average pooling and a linear
layer. A stage has six tokens, each the place of a value in a list of
`nascore.spaces.residual.config`: number of blocks minus one, width, kernel size, kind of block,
squeeze-and-excitation (0 or 1), stride of its first block. Two more tokens choose normalisation and
activation of the whole network.

The standard width of stage s (from 0) is `channels` * 2^s, as in ResNet (arXiv 1512.03385). The
widths of a network are the standard ones times those of its tokens, times the factor with which its
blocks have as many parameters as those of the standard network; all are multiples of four. So all
networks have about the same number of parameters, which `channels` sets, and a search compares
structures of equal size: children are trained too briefly to choose a size.

`standard` is the network that an engineer would try first: two basic blocks a stage, 3x3, batch
normalisation, ReLU, resolution halved from the second stage on. Networks are compared at equal
computation, since in the time of a slow network the standard one would learn more as well: those
whose updates are cheaper make more of them (`nascore.training.length`). A search leaves out
networks whose updates take more than `max_cost` times as long.

It works for any size of images. The stem halves the maps until they are smaller than 64 pixels,
first by the stride of its convolution, then by pooling, as in ResNet: from images of 224 pixels the
first stage gets maps of 56 pixels. Images below 64 pixels keep their size. Convolutions are padded,
so a map of one pixel stays one pixel.

This space is our own: its values are those in which ResNet, MobileNetV2 and their successors differ
(compare RegNet, arXiv 2003.13678, which searches depth, width and groups).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
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
from nascore.spaces.flops import count
from nascore.spaces.residual.blocks import (
    BlockShape,
    Style,
    conv_norm,
    make_block,
    num_params,
    rounded,
)
from nascore.spaces.residual.config import (
    ACTIVATIONS,
    BLOCKS,
    KERNELS,
    MAX_COST,
    NORMS,
    STRIDES,
    WIDTHS,
    ResidualSpaceConfig,
)

_TOKENS_OF_STAGE = 6
_STEM_KERNEL = 3
_CACHED = 2**14  # genotypes whose stages are known: methods look at many of them again
_NUM_CORRECTIONS = 3  # of the factor of all channels
_NEAR = (0.9, 1.0, 1.1)  # factors that rounding may make better
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
    """`SearchSpace` of residual networks; see the module text.

    Attributes:
        max_cost: time of an update of a network that is trained, at most, relative to the standard
            one.
    """

    def __init__(self, config: ResidualSpaceConfig) -> None:
        self.config = config
        self.max_cost, self.equal_computation = MAX_COST, config.equal_computation
        self.identifier = (
            f"residual-{config.num_stages}x{config.max_depth}-c{config.channels}-equal"
        )
        self.cardinalities = config.cardinalities
        self._known: dict[tuple[int, ...], tuple[Stage, ...]] = {}
        self._stem_channels = rounded(config.channels)
        self._params = self._params_of(
            [
                Stage(2, rounded(config.channels * 2**place), 3, "basic", False, 1 + (place > 0))
                for place in range(config.num_stages)
            ]
        )

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
        found = self._known.get(genotype.tokens)
        if found is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            found = self._known[genotype.tokens] = self._decode(genotype.tokens)
        return found

    def _decode(self, tokens: tuple[int, ...]) -> tuple[Stage, ...]:
        stages, ratios = [], []
        # Only their ratio counts, so tokens of equal ratios have to end at equal widths.
        widest = max(WIDTHS[token] for token in tokens[1:-2:_TOKENS_OF_STAGE])
        for place in range(self.config.num_stages):
            first = place * _TOKENS_OF_STAGE
            depth, width, kernel, block, squeeze, stride = tokens[first : first + _TOKENS_OF_STAGE]
            ratios.append(self.config.channels * 2**place * WIDTHS[width] / widest)
            stages.append(
                Stage(
                    depth=depth + 1,
                    channels=rounded(ratios[-1]),
                    kernel=KERNELS[kernel],
                    block=BLOCKS[block],
                    squeeze=bool(squeeze),
                    stride=STRIDES[stride],
                )
            )
        return self._resized(stages, ratios)

    def _resized(self, stages: list[Stage], ratios: list[float]) -> tuple[Stage, ...]:
        """Return stages with about the parameters of the standard network.

        Args:
            stages: with any channels.
            ratios: channels of each stage, up to a common factor.
        """

        def times(factor: float) -> list[Stage]:
            pairs = zip(stages, ratios, strict=True)
            return [replace(stage, channels=rounded(factor * ratio)) for stage, ratio in pairs]

        factor = 1.0
        for _ in range(_NUM_CORRECTIONS):  # parameters grow about as the square of the channels
            factor *= math.sqrt(self._params / self._params_of(times(factor)))
        candidates = [times(factor * near) for near in _NEAR]
        return tuple(min(candidates, key=lambda one: abs(self._params_of(one) - self._params)))

    def _params_of(self, stages: Iterable[Stage]) -> int:
        """Return the parameters of all blocks."""
        total, channels = 0, self._stem_channels
        for stage, stride in _blocks(stages):
            block = BlockShape(channels, stage.channels, stride, stage.kernel, stage.squeeze)
            total += num_params(stage.block, block)
            channels = stage.channels
        return total

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
        return ResidualNetwork(stages, style, shape, self._stem_channels)

    def refusal(self, genotype: Genotype, shape: ImageShape) -> str | None:
        """Return how far the cost of a network is above `max_cost`, if it is."""
        factor = self.relative_cost(genotype, shape)
        if factor <= self.max_cost:
            return None
        return (
            f"its updates take about {factor:.1f} times as long as those of the standard network, "
            f"more than {self.max_cost:g}"
        )

    def relative_cost(self, genotype: Genotype, shape: ImageShape) -> float:
        """Return how long a weight update takes relative to one of the standard network."""
        return self._update_cost(genotype, shape) / self._update_cost(self.standard, shape)

    def _update_cost(self, genotype: Genotype, shape: ImageShape) -> float:
        with torch.device("meta"):  # no memory, no arithmetic
            return count(self.build(genotype, shape), shape).update_cost

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Return all blocks, from top to bottom."""
        size, channels = shape.size, self._stem_channels
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


def _blocks(stages: Iterable[Stage]) -> Iterator[tuple[Stage, int]]:
    """Yield the stage and the stride of each block, in order."""
    for stage in stages:
        for number in range(stage.depth):
            yield stage, stage.stride if number == 0 else 1
