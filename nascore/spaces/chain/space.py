"""The chain space of NASES (arXiv 1909.03615, released code): layers of four tokens.

Layer k is described by (op, kernel, filters, skip). The released code reads tokens 1..29; genotypes
count from 0, so a token here is the paper's minus one. Other vocabularies are mapped to 1..29
(`paper = ceil(token * 29 / vocabulary)`, 1-based), which keeps the share of each operation.

- op, ignored for layer 0 (always a plain convolution): 1-4 separable block, 5-19 convolution block,
  20-24 max pooling, 25-29 average pooling (2x2, stride 2).
- kernel: below 15 means 3x3, otherwise 5x5.
- filters: output channels = `channels_per_token` * own 1-based token (+ an addition in the final
  network).
- skip: layer k receives a shortcut from every earlier layer n with |skip_n - skip_k| < 5, a
  proximity code: connectivity varies smoothly with the token.

A shortcut is a strided 1x1 convolution, BN and ReLU on the source's own output (not on what was
concatenated to it), and is concatenated behind the layer's own output. It has as many channels as
the source has filter tokens: `channels(source) // channels_per_token + added //
channels_per_token`, at least one. With 10 channels a token that is the release's rule; a fixed
tenth would leave the narrow networks of a small machine shortcuts of one channel.

Departure: pooling stops at `min_map_size` (the release can pool 15 times on 32 pixels); a pooling
layer beyond that keeps the size and pools 3x3 with stride 1.
"""

import math
from dataclasses import dataclass
from itertools import combinations, product

import torch
from torch import Tensor, nn

from nascore.genotype import Genotype
from nascore.spaces import ops
from nascore.spaces.base import ArchitectureGraph, GraphNode, ImageShape, Phase, check
from nascore.spaces.chain.config import ChainSpaceConfig

_PAPER_VOCABULARY = 29
_LAST_SEPARABLE, _LAST_CONV, _LAST_MAX_POOL = 4, 19, 24
_FIRST_5X5 = 15
_SKIP_REACH = 5
TOKENS_PER_LAYER = 4
_LABELS = {  # operation -> label and kind of its node in a drawing
    "conv": ("conv", "conv"),
    "conv_block": ("conv block", "conv"),
    "separable": ("separable", "separable"),
    "max_pool": ("max pool", "pool"),
    "avg_pool": ("avg pool", "pool"),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """A decoded layer.

    Attributes:
        op: `conv` (plain, layer 0), `conv_block`, `separable`, `max_pool` or `avg_pool`.
        kernel: 3 or 5; 0 for pooling.
        filters: 1-based token; 0 for pooling, which keeps its channels.
        sources: earlier layers that send a shortcut here.
    """

    op: str
    kernel: int
    filters: int
    sources: tuple[int, ...]

    @property
    def is_pool(self) -> bool:
        return self.op.endswith("pool")

    def __str__(self) -> str:
        name = self.op if self.is_pool else f"{self.op}{self.kernel}x{self.kernel}-f{self.filters}"
        return name + (f"<{','.join(map(str, self.sources))}" if self.sources else "")


class ChainSpace:
    """`SearchSpace` of chains; see the module."""

    def __init__(self, config: ChainSpaceConfig) -> None:
        self.config = config
        self.identifier = (
            f"chain-{config.num_layers}x{TOKENS_PER_LAYER}-v{config.vocabulary}"
            f"-c{config.channels_per_token}-m{config.min_map_size}"
        )
        self.cardinalities = config.cardinalities
        # Searches compute hundreds of keys for each architecture that they train.
        values = [self._paper_token(token) for token in range(config.vocabulary)]
        pairs = product(enumerate(values), repeat=2)
        self._connects = {(i, j): abs(a - b) < _SKIP_REACH for (i, a), (j, b) in pairs}
        self._texts: dict[tuple[bool, tuple[int, ...]], str] = {}  # of layers without shortcuts

    def layers(self, genotype: Genotype) -> tuple[Layer, ...]:
        """Return the layers of a genotype; raise GenotypeNotInSpace for other spaces."""
        check(self, genotype)
        skips = genotype.tokens[3::TOKENS_PER_LAYER]
        layers = []
        for k, skip in enumerate(skips):
            start = TOKENS_PER_LAYER * k
            sources = tuple(n for n in range(k) if self._connects[skip, skips[n]])
            layers.append(self._layer(k == 0, genotype.tokens[start : start + 3], sources))
        return tuple(layers)

    def _layer(self, is_first: bool, tokens: tuple[int, ...], sources: tuple[int, ...]) -> Layer:
        op = "conv" if is_first else _op(self._paper_token(tokens[0]))
        if op.endswith("pool"):
            return Layer(op, kernel=0, filters=0, sources=sources)
        kernel = 3 if self._paper_token(tokens[1]) < _FIRST_5X5 else 5
        return Layer(op, kernel=kernel, filters=tokens[2] + 1, sources=sources)

    def canonical(self, genotype: Genotype) -> str:
        """Return a key with the content of `describe`, but faster: layers, then connections."""
        check(self, genotype)
        tokens, step = genotype.tokens, TOKENS_PER_LAYER
        layers = [
            # The look-up of `_text` without a call: a search needs thousands of keys.
            self._texts.get((k == 0, tokens[k : k + 3])) or self._text(k == 0, tokens[k : k + 3])
            for k in range(0, len(tokens), step)
        ]
        connects = map(self._connects.__getitem__, combinations(tokens[3::step], 2))
        return f"{' '.join(layers)} {bytes(connects).hex()}"

    def describe(self, genotype: Genotype) -> str:
        """Return the layers as text, see `Layer`."""
        return " ".join(map(str, self.layers(genotype)))

    def _text(self, is_first: bool, tokens: tuple[int, ...]) -> str:
        """Return the text of a layer without shortcuts, by its first three tokens."""
        found = self._texts.get((is_first, tokens))
        if found is None:
            found = str(self._layer(is_first, tokens, ()))
            self._texts[is_first, tokens] = found
        return found

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        added = self.config.final_added_channels if phase == "final" else 0
        return ChainNetwork(self.layers(genotype), shape, self.config, added_channels=added)

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Return the network of the search phase; the final one has more channels."""
        nodes = [
            GraphNode("input", "image", "input", f"{shape.size}×{shape.size}×{shape.channels}")
        ]
        edges: list[tuple[str, str, str]] = []
        size = shape.size
        for k, layer in enumerate(self.layers(genotype)):
            label, kind = _LABELS[layer.op]
            window = layer.kernel
            if layer.is_pool:
                pooled = _pooled(size, self.config.min_map_size)
                window = 3 if pooled == size else 2
                size = pooled
            channels = self.config.channels_per_token * layer.filters
            detail = f"{size}×{size}" + (f"×{channels}" if channels else "")
            nodes.append(GraphNode(str(k), f"{label} {window}×{window}", kind, detail))
            edges.append((str(k - 1) if k else "input", str(k), ""))
            edges += [(str(source), str(k), "shortcut") for source in layer.sources]
        answer = GraphNode("output", "average, linear", "output", f"{shape.num_classes} classes")
        edges.append((str(self.config.num_layers - 1), "output", ""))
        return ArchitectureGraph((*nodes, answer), tuple(edges))

    def _paper_token(self, token: int) -> int:
        return math.ceil((token + 1) * _PAPER_VOCABULARY / self.config.vocabulary)


class ChainLayer(nn.Module):
    """One layer with its incoming shortcuts."""

    def __init__(
        self, body: nn.Module, shortcuts: list[nn.Module], sources: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcuts = nn.ModuleList(shortcuts)
        self.sources = sources

    def forward(self, x_BCHW: Tensor, outputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the layer's own output, and the input of the next layer.

        Args:
            x_BCHW: input of the layer.
            outputs: own outputs of all earlier layers.
        """
        own: Tensor = self.body(x_BCHW)
        if not self.sources:
            return own, own
        arriving = [
            shortcut(outputs[source])
            for shortcut, source in zip(self.shortcuts, self.sources, strict=True)
        ]
        return own, torch.cat([own, *arriving], dim=1)


class ChainNetwork(nn.Module):
    """A network of the chain space: (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(
        self,
        layers: tuple[Layer, ...],
        shape: ImageShape,
        config: ChainSpaceConfig,
        *,
        added_channels: int,
    ) -> None:
        super().__init__()
        per_token = config.channels_per_token
        self.layers = nn.ModuleList()
        outputs: list[tuple[int, int]] = []  # (channels, size) of each layer's own output
        channels, size = shape.channels, shape.size
        for layer in layers:
            if layer.is_pool:
                own_channels, pooled = channels, _pooled(size, config.min_map_size)
                body = _pool(layer.op, size, pooled)
                size = pooled
            else:
                own_channels = per_token * layer.filters + added_channels
                body = _body(layer, channels, own_channels)
            shortcuts = []
            channels = own_channels
            for source in layer.sources:
                source_channels, source_size = outputs[source]
                width = max(1, source_channels // per_token + added_channels // per_token)
                stride = math.ceil(source_size / size)
                shortcuts.append(_shortcut(source_channels, width, stride))
                channels += width
            self.layers.append(ChainLayer(body, shortcuts, layer.sources))
            outputs.append((own_channels, size))
        self.head = nn.Linear(channels, shape.num_classes)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        x = x_BCHW
        for layer in self.layers:
            own, x = layer(x, outputs)
            outputs.append(own)
        logits_BK: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits_BK


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Sequential(
        ops.conv(in_channels, out_channels, 1, stride=stride),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _op(paper_token: int) -> str:
    if paper_token <= _LAST_SEPARABLE:
        return "separable"
    if paper_token <= _LAST_CONV:
        return "conv_block"
    return "max_pool" if paper_token <= _LAST_MAX_POOL else "avg_pool"


def _body(layer: Layer, in_channels: int, out_channels: int) -> nn.Module:
    if layer.op == "conv":
        return nn.Sequential(
            ops.conv(in_channels, out_channels, layer.kernel), nn.BatchNorm2d(out_channels)
        )
    block = ops.conv_block if layer.op == "conv_block" else ops.separable_block
    return block(in_channels, out_channels, layer.kernel)


def _pooled(size: int, min_size: int) -> int:
    """Return the size after a 2x2 pooling with "same" padding, or the size itself if too small."""
    half = math.ceil(size / 2)
    return half if half >= min_size else size


def _pool(op: str, size: int, pooled: int) -> nn.Module:
    if pooled == size:  # at the smallest size: pool without a stride
        kernel, stride, padding = 3, 1, 1
    else:
        kernel, stride, padding = 2, 2, 0
    if op == "max_pool":
        return nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)
    return nn.AvgPool2d(kernel, stride, padding, ceil_mode=True, count_include_pad=False)
