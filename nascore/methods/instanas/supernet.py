"""The meta-graph: all operations of all blocks, of which each image uses some.

A policy is a bit for each operation of each block and image, bool (B, L, O). An operation is
computed on the images that have it, so that a batch has the cost of its images. Batch normalisation
in training therefore uses the statistics of those images. If fewer than `MIN_IMAGES` have the
operation, and not the whole batch, their statistics would be noise (undefined for one image with a
map of one pixel): the operation then normalises by its running averages, which are unchanged, and
its weights are trained as usual. The release computes all operations on all images and masks the
outputs, so its statistics include images that do not have the operation.

B images, L blocks, O operations, C channels, K classes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape, make_genotype
from nascore.spaces.mobilenet.network import OPS, BlockPlan
from nascore.spaces.mobilenet.space import HEAD, STEM, MobileSpace, effective, part_name
from nascore.spaces.ops import evaluation_mode

MIN_IMAGES = 8
"""Fewer images than these, in a larger batch, do not change an operation's running averages."""


class MetaGraph(nn.Module):
    """The shared weights of a `mobile` space's final networks.

    Attributes:
        space: the search space.
        shape: of the images.
        plans: the blocks.
        parts: all modules by their names in the space; a stand-alone network has the same names.
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
        """Return the logits (B, K) of each image through its own network.

        Operations without an image have no gradient.

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
        """Return the computed operations; see `nascore.spaces.mobilenet.space.effective`."""
        return effective(policy_BLO, self.plans)

    def static(self, policy_LO: Tensor) -> nn.Module:
        """Return the network of a policy on the meta-graph's weights."""
        genotype = make_genotype(self.space, policy_LO.flatten().tolist())
        return self.space.assemble(
            genotype, self.shape, lambda name, make: self.parts[name], "final"
        )

    def check(self, x_BCHW: Tensor, policy_BLO: Tensor) -> None:
        """Raise ValueError if images or policy do not fit the graph."""
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
        """Return the factor of the sum of each image's operations, (B, 1, 1, 1); None for 1."""
        if not self.space.takes_mean:
            return None
        return 1 / active_BO.sum(dim=1).clamp(min=1)[:, None, None, None]

    def _block(self, block: int, x_BCHW: Tensor, active_BO: Tensor) -> Tensor:
        """Return the sum or mean of each image's operations; its input if it has none."""
        batch, counts = len(x_BCHW), active_BO.sum(dim=0).tolist()
        total_BCHW = passed_on(x_BCHW, active_BO, self.plans[block])
        # In place: no backward pass needs the sums, and copying them takes as long as an operation.
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
    """Return a meta-graph whose initial weights depend on `seed` alone."""
    with seeded_weights(seed):
        return MetaGraph(space, shape)


def passed_on(x_BCHW: Tensor, active_BO: Tensor, plan: BlockPlan) -> Tensor:
    """Return a block's output before any operation: inputs of images without one, else zeros."""
    if plan.is_first:
        size = (x_BCHW.shape[0], plan.out_channels, plan.out_size, plan.out_size)
        return x_BCHW.new_zeros(size).to(memory_format=torch.channels_last)
    is_empty_B = ~active_BO.any(dim=1)
    return torch.where(is_empty_B[:, None, None, None], x_BCHW, 0.0)


def _statistics(module: nn.Module, count: int, batch: int) -> AbstractContextManager[None]:
    """Use running averages if `count` images of a `batch` are too few."""
    too_few = module.training and count < min(batch, MIN_IMAGES)
    return evaluation_mode(module) if too_few else nullcontext()
