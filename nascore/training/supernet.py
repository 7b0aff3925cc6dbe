"""Supernet: one network that contains all networks of a space, which share its weights.

A supernet holds one module for each part that any network of the space may have. `path` assembles
the network of a genotype from these very modules, by the code that builds it on its own: only the
operations of the path are computed, its parameters *are* the supernet's, and what the path does not
have gets no gradient. A path costs as much as its network, plus the assembly of a few modules.

Batch normalisation has no running averages: they would mix the statistics of thousands of paths,
and a path evaluated with them has chance accuracy. A path is normalised by its batch, in training
and in evaluation, as in NAS-Bench-201's weight-sharing baselines; evaluate it on batches of a
hundred images or more.
"""

from collections.abc import Callable
from typing import cast

from torch import nn
from torch.func import replace_all_batch_norm_modules_

from nascore.genotype import Genotype
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape, SearchSpace, SharedSpace


class Supernet(nn.Module):
    """The shared weights of a space's networks of the search phase.

    Attributes:
        parts: all of them, by the names that the space gives them.
    """

    def __init__(self, space: SharedSpace, shape: ImageShape) -> None:
        super().__init__()
        self._space, self._shape = space, shape
        self.parts = nn.ModuleDict()
        for genotype in space.covering():
            space.assemble(genotype, shape, self._make_once)
        replace_all_batch_norm_modules_(self)

    def path(self, genotype: Genotype) -> nn.Module:
        """Return the network of a genotype on the shared weights, (B, C, H, W) -> (B, num_classes).

        Raises:
            GenotypeNotInSpace: the genotype is not one of the space.
        """
        return self._space.assemble(genotype, self._shape, self._shared)

    def _make_once(self, name: str, make: Callable[[], nn.Module]) -> nn.Module:
        if name not in self.parts:
            self.parts[name] = make()
        return self.parts[name]

    def _shared(self, name: str, make: Callable[[], nn.Module]) -> nn.Module:
        return self.parts[name]


def make_supernet(space: SearchSpace, shape: ImageShape, *, seed: int) -> Supernet:
    """Return a supernet with initial weights that depend on `seed` alone.

    Raises:
        TypeError: the networks of the space cannot share weights.
    """
    if not hasattr(space, "assemble"):
        raise TypeError(f"the networks of {space.identifier} cannot share weights")
    with seeded_weights(seed):
        return Supernet(cast(SharedSpace, space), shape)
