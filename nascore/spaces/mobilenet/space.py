"""The space of InstaNAS (arXiv 1811.10201, released code): MobileNetV2 with a choice in each block.

A block has five operations and any subset of them; its output is the sum of theirs, or, as a choice
of ours, the mean. So a genotype
is a bit for each operation of each block, and so is what a policy chooses for one image. A block
without an operation passes its input on; the first one of a stage, where the shape changes, has the
basic operation then, always (the release takes another one where a whole batch is without). The
network is a stem, the blocks, a 1x1 convolution, global average pooling of whatever size is left
(the release pools a fixed one), and a linear layer.

Weights are kept with the channels last: convolutions of each channel alone, which most of these
are, then learn in about two thirds of the time on a processor.

L blocks, O operations.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor, nn

from nascore.genotype import Genotype
from nascore.spaces import ops
from nascore.spaces.base import ArchitectureGraph, GraphNode, ImageShape, Phase, check
from nascore.spaces.dag import OUTPUT, LabelledDag
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.parts import Parts, fresh

OPS = ("k3e6", "k3e3", "k5e6", "k5e3", "basic")
"""Inverted residuals by kernel and expansion, then two 3x3 convolutions."""
DEFAULT_OP = OPS.index("basic")
STEM, HEAD = "stem", "head"
_INVERTED = {"k3e6": (3, 6), "k3e3": (3, 3), "k5e6": (5, 6), "k5e3": (5, 3)}
_DRAWN = {
    "k3e6": "inverted 3×3, ×6",
    "k3e3": "inverted 3×3, ×3",
    "k5e6": "inverted 5×5, ×6",
    "k5e3": "inverted 5×5, ×3",
    "basic": "two conv 3×3",
}
_CHANNEL_STEP = 4

Operations = tuple[int, ...]
"""Of a block, those that are computed, as places in `OPS`; none passes the input on."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What a block turns into what: (B, in_channels, in_size, in_size) -> out_...

    Attributes:
        is_first: of its stage; then it cannot pass its input on.
    """

    index: int
    in_channels: int
    out_channels: int
    stride: int
    is_first: bool
    in_size: int
    out_size: int


def part_name(block: int, operation: int) -> str:
    """The name of an operation's part; the others are `STEM` and `HEAD`."""
    return f"block{block}/{OPS[operation]}"


def effective(policy_BLO: Tensor, plans: Sequence[BlockPlan]) -> Tensor:
    """What is computed for a policy, bool (..., L, O): blocks that must not be empty have `basic`.

    Each row is completed by itself; the others do not matter.
    """
    is_first_L = torch.tensor([plan.is_first for plan in plans], device=policy_BLO.device)
    completed_BLO = policy_BLO.bool().clone()
    completed_BLO[..., DEFAULT_OP] |= is_first_L & ~completed_BLO.any(dim=-1)
    return completed_BLO


def active_operations(bits: Sequence[int], *, is_first: bool) -> Operations:
    """The same for one block, as places in `OPS`."""
    active = tuple(operation for operation, bit in enumerate(bits) if bit)
    return active or ((DEFAULT_OP,) if is_first else ())


class MobileSpace:
    """`SearchSpace` of one subset of operations a block: 32^L token strings."""

    def __init__(self, config: MobileSpaceConfig) -> None:
        self.config = config
        rows = (f"{channels}x{repeats}s{stride}" for channels, repeats, stride in config.stages)
        self.identifier = "mobile-" + "_".join(rows) + ("-mean" if self.takes_mean else "")
        self._is_first = tuple(
            block == 0 for _, repeats, _ in config.stages for block in range(repeats)
        )
        self.cardinalities = config.cardinalities

    @property
    def takes_mean(self) -> bool:
        """Whether a block's output is the mean of its operations', and not their sum."""
        return self.config.combine == "mean"

    @property
    def num_blocks(self) -> int:
        return len(self._is_first)

    def plans(self, shape: ImageShape, phase: Phase = "final") -> tuple[BlockPlan, ...]:
        """The blocks, as images of that shape go through them."""
        config = self.config
        channels, size = self._channels(config.stem_channels, phase), shape.size
        size = _strided(size, config.stem_stride)
        plans: list[BlockPlan] = []
        for row_channels, repeats, row_stride in config.stages:
            out_channels = self._channels(row_channels, phase)
            for block in range(repeats):
                stride = row_stride if block == 0 else 1
                after = _strided(size, stride)
                plans.append(
                    BlockPlan(len(plans), channels, out_channels, stride, block == 0, size, after)
                )
                channels, size = out_channels, after
        return tuple(plans)

    def operations(self, genotype: Genotype) -> tuple[Operations, ...]:
        """What each block computes.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        check(self, genotype)
        blocks = []
        for block, is_first in enumerate(self._is_first):
            bits = genotype.tokens[block * len(OPS) : (block + 1) * len(OPS)]
            blocks.append(active_operations(bits, is_first=is_first))
        return tuple(blocks)

    def canonical(self, genotype: Genotype) -> str:
        """Equal where what is computed is: an empty first block of a stage is a basic one."""
        return "|".join("".join(map(str, block)) for block in self.operations(genotype))

    def describe(self, genotype: Genotype) -> str:
        """`0=k3e6+basic 1=identity ...`, what each block computes."""
        return " ".join(
            f"{block}=" + ("+".join(OPS[operation] for operation in active) or "identity")
            for block, active in enumerate(self.operations(genotype))
        )

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        return self.assemble(genotype, shape, fresh, phase)

    def assemble(
        self, genotype: Genotype, shape: ImageShape, parts: Parts, phase: Phase = "search"
    ) -> nn.Module:
        """`build`, with all that has weights from `parts`."""
        active, plans, config = self.operations(genotype), self.plans(shape, phase), self.config
        make_stem = partial(_stem, shape.channels, plans[0].in_channels, config.stem_stride)
        stem = parts(STEM, make_stem)
        blocks = [
            Block(
                [
                    parts(part_name(plan.index, op), partial(make_operation, op, plan))
                    for op in operations
                ],
                takes_mean=self.takes_mean,
            )
            for plan, operations in zip(plans, active, strict=True)
        ]
        head_channels = self._channels(config.head_channels, phase)
        make_head = partial(_head, plans[-1].out_channels, head_channels, shape.num_classes)
        return MobileNetwork(stem, blocks, parts(HEAD, make_head))

    def covering(self) -> Iterable[Genotype]:
        """The one that has all operations."""
        yield Genotype(self.identifier, (1,) * len(self.cardinalities))

    def dag(self, genotype: Genotype) -> LabelledDag:
        """The input; of each block its five operations and their sum; the output.

        An operation that is not computed is labelled `none` and has no edges. An empty block's sum
        reads the sum before it.
        """
        labels, edges, before = ["input"], set[tuple[int, int]](), 0
        for active in self.operations(genotype):
            total = len(labels) + len(OPS)
            for operation in active:
                edges |= {(before, len(labels) + operation), (len(labels) + operation, total)}
            if not active:
                edges.add((before, total))
            labels += [name if i in active else "none" for i, name in enumerate(OPS)]
            labels.append("sum")
            before = total
        edges.add((before, len(labels)))
        return LabelledDag((*labels, OUTPUT), frozenset(edges))

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """All blocks of the final network, one below the other."""
        stem = f"{shape.size}×{shape.size}×{shape.channels}, 3×3 stem"
        nodes = [GraphNode("image", "image", "input", stem)]
        edges: list[tuple[str, str, str]] = []
        for plan, active in zip(self.plans(shape), self.operations(genotype), strict=True):
            before, detail = nodes[-1].id, f"{plan.out_size}×{plan.out_size}×{plan.out_channels}"
            added = [_drawn(plan.index, operation, detail) for operation in active]
            if not added:
                added = [GraphNode(f"b{plan.index}", "identity", "skip", detail)]
            nodes += added
            edges += [(before, node.id, "") for node in added]
            if len(added) > 1:
                nodes.append(
                    GraphNode(f"b{plan.index}", f"block {plan.index}", "sum", self.config.combine)
                )
                edges += [(node.id, nodes[-1].id, "") for node in added]
        edges.append((nodes[-1].id, "classes", ""))
        nodes.append(GraphNode("classes", "classes", "output", "1×1, pooled, linear"))
        return ArchitectureGraph(tuple(nodes), tuple(edges))

    def _channels(self, channels: int, phase: Phase) -> int:
        width = self.config.width if phase == "final" else self.config.search_width
        return max(_CHANNEL_STEP, round(channels * width / _CHANNEL_STEP) * _CHANNEL_STEP)


def _strided(size: int, stride: int) -> int:
    """Height and width after a convolution that is padded to keep them at stride 1."""
    return (size - 1) // stride + 1


def _drawn(block: int, operation: int, detail: str) -> GraphNode:
    name = OPS[operation]
    kind = "separable" if name in _INVERTED else "conv"
    return GraphNode(f"b{block}-{name}", _DRAWN[name], kind, detail)


# --- the network --------------------------------------------------------------------------------


class MobileNetwork(nn.Module):
    """One architecture, the same for all images: (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(self, stem: nn.Module, blocks: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stem(x_BCHW)
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        logits_BK: Tensor = self.head(x_BCHW)
        return logits_BK


class Block(nn.Module):
    """The sum or mean of some operations, or the input where there is none."""

    def __init__(self, operations: Iterable[nn.Module], *, takes_mean: bool) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.takes_mean = takes_mean

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if len(self.operations) == 0:
            return x_BCHW
        out_BCHW: Tensor = reduce(torch.add, [module(x_BCHW) for module in self.operations])
        return out_BCHW / len(self.operations) if self.takes_mean else out_BCHW


class InvertedResidual(nn.Module):
    """Expand 1x1 - depthwise k x k - project 1x1, plus the input where the shape is kept."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, expansion: int, stride: int
    ) -> None:
        super().__init__()
        inner = expansion * in_channels
        self.body = nn.Sequential(
            *_conv_bn(in_channels, inner, 1),
            nn.ReLU(),
            *_conv_bn(inner, inner, kernel, stride=stride, groups=inner),
            nn.ReLU(),
            *_conv_bn(inner, out_channels, 1),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out_BCHW: Tensor = self.body(x_BCHW)
        return out_BCHW + x_BCHW if self.has_shortcut else out_BCHW


def make_operation(operation: int, plan: BlockPlan) -> nn.Module:
    """A new operation of a block, with initial weights."""
    name, given, wanted = OPS[operation], plan.in_channels, plan.out_channels
    if name in _INVERTED:
        kernel, expansion = _INVERTED[name]
        return _channels_last(
            InvertedResidual(given, wanted, kernel=kernel, expansion=expansion, stride=plan.stride)
        )
    return _channels_last(
        nn.Sequential(
            *_conv_bn(given, wanted, 3, stride=plan.stride),
            nn.ReLU(),
            *_conv_bn(wanted, wanted, 3),
            nn.ReLU6(),
        )
    )


def _conv_bn(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    return (
        ops.conv(in_channels, out_channels, kernel, stride=stride, groups=groups),
        nn.BatchNorm2d(out_channels),
    )


def _stem(in_channels: int, channels: int, stride: int) -> nn.Module:
    return _channels_last(
        nn.Sequential(*_conv_bn(in_channels, channels, 3, stride=stride), nn.ReLU())
    )


def _head(in_channels: int, channels: int, num_classes: int) -> nn.Module:
    return _channels_last(
        nn.Sequential(
            *_conv_bn(in_channels, channels, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )
    )


def _channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)
