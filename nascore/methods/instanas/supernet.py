"""The meta-graph: all operations of all blocks, of which each image takes some.

A policy is a bit for each operation of each block and image, bool (B, L, O). An operation is
computed on the images that have it, so that a batch costs what its images do. Batch normalisation
in training is therefore over those images: what an operation is judged by, alone, are statistics of
images that are given to it. Where fewer than `MIN_IMAGES` have it, and not the whole batch, their
statistics would be noise (of one image on a map of one pixel, none at all): the operation then
normalises by its running averages, which stay as they are, and its weights learn as ever. The
release computes all operations on all images and masks the outputs, so that its statistics are of
images that do not have the operation, too.

B images, L blocks, O operations, C channels, K classes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape, make_genotype
from nascore.spaces.mobilenet.space import (
    HEAD,
    OPS,
    STEM,
    BlockPlan,
    MobileSpace,
    effective,
    part_name,
)
from nascore.spaces.ops import evaluation_mode

MIN_IMAGES = 8
"""Fewer images than these, in a larger batch, do not change an operation's running averages."""


class MetaGraph(nn.Module):
    """The shared weights of a `mobile` space's final networks.

    Attributes:
        space: whose subsets of operations the policies are.
        shape: of the images.
        plans: the blocks.
        parts: all that has weights, by the names that the space gives them; a path of a supernet
            and a network of its own have the same.
    """

    def __init__(self, space: MobileSpace, shape: ImageShape) -> None:
        super().__init__()
        self.space, self.shape = space, shape
        self.plans = space.plans(shape)
        self.parts = nn.ModuleDict()
        for genotype in space.covering():
            space.assemble(genotype, shape, self._make_once, "final")

    @property
    def policy_shape(self) -> tuple[int, int]:
        """(L, O)."""
        return len(self.plans), len(OPS)

    @property
    def stem(self) -> nn.Module:
        return self.parts[STEM]

    @property
    def head(self) -> nn.Module:
        return self.parts[HEAD]

    def operation(self, block: int, operation: int) -> nn.Module:
        return self.parts[part_name(block, operation)]

    def forward(self, x_BCHW: Tensor, policy_BLO: Tensor) -> Tensor:
        """Logits (B, K) of each image through its own network.

        Operations that no image has get no gradient.

        Raises:
            ValueError: images or policy are of another shape.
        """
        self.check(x_BCHW, policy_BLO)
        active_BLO = self.effective(policy_BLO)
        x_BCHW = self.stem(x_BCHW)
        for block in range(len(self.plans)):
            x_BCHW = self._block(block, x_BCHW, active_BLO[:, block])
        logits_BK: Tensor = self.head(x_BCHW)
        return logits_BK

    def effective(self, policy_BLO: Tensor) -> Tensor:
        """What is computed for a policy; see `nascore.spaces.mobilenet.space.effective`."""
        return effective(policy_BLO, self.plans)

    def static(self, policy_LO: Tensor) -> nn.Module:
        """The network that all images of this policy go through, on the meta-graph's weights."""
        genotype = make_genotype(self.space, policy_LO.flatten().tolist())
        return self.space.assemble(
            genotype, self.shape, lambda name, make: self.parts[name], "final"
        )

    def check(self, x_BCHW: Tensor, policy_BLO: Tensor) -> None:
        """Raises ValueError when images or policy do not fit the graph."""
        shape = self.shape
        wanted = (shape.channels, shape.size, shape.size)
        if tuple(x_BCHW.shape[1:]) != wanted:
            raise ValueError(
                f"the meta-graph is for images {wanted}, got {tuple(x_BCHW.shape[1:])}"
            )
        if tuple(policy_BLO.shape) != (len(x_BCHW), *self.policy_shape):
            raise ValueError(
                f"a policy for these images is {(len(x_BCHW), *self.policy_shape)}, "
                f"got {tuple(policy_BLO.shape)}"
            )

    def scale(self, active_BO: Tensor) -> Tensor | None:
        """What the sum of each image's operations is multiplied by, (B, 1, 1, 1); None for 1."""
        if not self.space.takes_mean:
            return None
        return 1 / active_BO.sum(dim=1).clamp(min=1)[:, None, None, None]

    def _block(self, block: int, x_BCHW: Tensor, active_BO: Tensor) -> Tensor:
        """Sum or mean of each image's operations; the image itself where it has none."""
        batch, counts = len(x_BCHW), active_BO.sum(dim=0).tolist()
        total_BCHW = passed_on(x_BCHW, active_BO, self.plans[block])
        # In place: no backward pass needs the sums, and copies of them cost what an operation does.
        for operation, count in enumerate(counts):
            if count == 0:
                continue
            module = self.operation(block, operation)
            with _statistics(module, count, batch):
                if count == batch:
                    total_BCHW.add_(module(x_BCHW))
                else:
                    rows_N = active_BO[:, operation].nonzero().squeeze(1)
                    # Not `index_select`, which would lose the order of the channels in memory.
                    out_NCHW = module(x_BCHW[rows_N])
                    total_BCHW.index_add_(0, rows_N, out_NCHW)
        scale_B111 = self.scale(active_BO)
        return total_BCHW if scale_B111 is None else total_BCHW.mul_(scale_B111)

    def _make_once(self, name: str, make: Callable[[], nn.Module]) -> nn.Module:
        if name not in self.parts:
            self.parts[name] = make()
        return self.parts[name]


def make_metagraph(space: MobileSpace, shape: ImageShape, *, seed: int) -> MetaGraph:
    """A meta-graph whose initial weights depend on `seed` alone; the global generator is kept."""
    with seeded_weights(seed):
        return MetaGraph(space, shape)


def passed_on(x_BCHW: Tensor, active_BO: Tensor, plan: BlockPlan) -> Tensor:
    """A block's output before any operation: images that have none, and zeros for the others."""
    if plan.is_first:
        size = (x_BCHW.shape[0], plan.out_channels, plan.out_size, plan.out_size)
        return x_BCHW.new_zeros(size).to(memory_format=torch.channels_last)
    is_empty_B = ~active_BO.any(dim=1)
    return torch.where(is_empty_B[:, None, None, None], x_BCHW, 0.0)


def _statistics(module: nn.Module, count: int, batch: int) -> AbstractContextManager[None]:
    """Running averages inside the block where `count` images of a `batch` are too few."""
    too_few = module.training and count < min(batch, MIN_IMAGES)
    return evaluation_mode(module) if too_few else nullcontext()
