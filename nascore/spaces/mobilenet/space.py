"""The space of InstaNAS (arXiv 1811.10201, released code): MobileNetV2 with a choice in each block.

A block computes any subset of five operations; its output is the sum of theirs or, as a choice of
ours, the mean. So a genotype is a bit for each operation of each block, and so is the policy of one
image. A block without an operation passes its input on; the first block of a stage, where the shape
changes, then has the basic operation (the release uses another one if a whole batch has none). The
network is a stem, the blocks, a 1x1 convolution, global average pooling of any size (the release
pools a fixed one), and a linear layer (`nascore.spaces.mobilenet.network`).

L blocks, O operations.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nascore.genotype import Genotype
from nascore.spaces.base import ArchitectureGraph, GraphNode, ImageShape, Phase, check
from nascore.spaces.dag import OUTPUT, LabelledDag
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.network import (
    INVERTED,
    OPS,
    Block,
    BlockPlan,
    MobileNetwork,
    make_head,
    make_operation,
    make_stem,
)
from nascore.spaces.parts import Parts, fresh

DEFAULT_OP = OPS.index("basic")
STEM, HEAD = "stem", "head"
_DRAWN = {
    "k3e6": "inverted 3×3, ×6",
    "k3e3": "inverted 3×3, ×3",
    "k5e6": "inverted 5×5, ×6",
    "k5e3": "inverted 5×5, ×3",
    "basic": "two conv 3×3",
}
_CHANNEL_STEP = 4

Operations = tuple[int, ...]
"""The computed operations of a block, as indices into `OPS`; empty passes the input on."""


def part_name(block: int, operation: int) -> str:
    """Return the name of an operation's module; the others are `STEM` and `HEAD`."""
    return f"block{block}/{OPS[operation]}"


def effective(policy_BLO: Tensor, plans: Sequence[BlockPlan]) -> Tensor:
    """Return the operations that are computed for policies, bool (..., L, O).

    Blocks that must not be empty have `basic`. Each policy is completed independently.
    """
    is_first_L = torch.tensor([plan.is_first for plan in plans], device=policy_BLO.device)
    completed_BLO = policy_BLO.bool().clone()
    completed_BLO[..., DEFAULT_OP] |= is_first_L & ~completed_BLO.any(dim=-1)
    return completed_BLO


def active_operations(bits: Sequence[int], *, is_first: bool) -> Operations:
    """Return the computed operations of one block, as indices into `OPS`."""
    active = tuple(operation for operation, bit in enumerate(bits) if bit)
    return active or ((DEFAULT_OP,) if is_first else ())


class MobileSpace:
    """`SearchSpace` of a subset of operations for each block: 32^L token strings."""

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
        """Whether the output of a block is the mean of its operations, not their sum."""
        return self.config.combine == "mean"

    @property
    def num_blocks(self) -> int:
        return len(self._is_first)

    def plans(self, shape: ImageShape, phase: Phase = "final") -> tuple[BlockPlan, ...]:
        """Return the shapes of all blocks for images of a shape."""
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
        """Return the computed operations of each block.

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
        """Return a key that is equal for equal networks: an empty first block is a basic one."""
        return "|".join("".join(map(str, block)) for block in self.operations(genotype))

    def describe(self, genotype: Genotype) -> str:
        """Return the operations of each block as text, `0=k3e6+basic 1=identity ...`."""
        return " ".join(
            f"{block}=" + ("+".join(OPS[operation] for operation in active) or "identity")
            for block, active in enumerate(self.operations(genotype))
        )

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        return self.assemble(genotype, shape, fresh, phase)

    def assemble(
        self, genotype: Genotype, shape: ImageShape, parts: Parts, phase: Phase = "search"
    ) -> nn.Module:
        """Build a network whose modules come from `parts`."""
        active, plans, config = self.operations(genotype), self.plans(shape, phase), self.config
        stem = parts(
            STEM, partial(make_stem, shape.channels, plans[0].in_channels, config.stem_stride)
        )
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
        head = partial(make_head, plans[-1].out_channels, head_channels, shape.num_classes)
        return MobileNetwork(stem, blocks, parts(HEAD, head))

    def covering(self) -> Iterable[Genotype]:
        """Yield the architecture that has all operations."""
        yield Genotype(self.identifier, (1,) * len(self.cardinalities))

    def dag(self, genotype: Genotype) -> LabelledDag:
        """Return the graph of the input, five operations and their sum per block, and the output.

        An operation that is not computed is labelled `none` and has no edges. The sum of an empty
        block reads the sum before it.
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
        """Return the drawing of all blocks of the final network, one below the other."""
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
    """Return the size after a convolution whose padding keeps it at stride 1."""
    return (size - 1) // stride + 1


def _drawn(block: int, operation: int, detail: str) -> GraphNode:
    name = OPS[operation]
    kind = "separable" if name in INVERTED else "conv"
    return GraphNode(f"b{block}-{name}", _DRAWN[name], kind, detail)
