"""All networks of a space in one: a path through it runs as its own network does.

A supernet holds one module for each part that any network of the space may have. `path` assembles
the network of a genotype from these very modules, by the code that builds it on its own: only the
operations of the path are computed, its parameters *are* the supernet's, and what the path does not
have gets no gradient. So a path costs what its network costs, plus the assembly of a few modules.

Batch normalisation has no running averages: they would mix the statistics of thousands of paths,
and a path that is judged by them is judged at chance. A path is normalised by the batch it sees, in
training and when it is judged, as in NAS-Bench-201's weight-sharing baselines; judge it on batches
of a hundred images or more.
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
        """The network of a genotype, (B, C, H, W) -> (B, num_classes), on the shared weights.

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
    """A supernet with initial weights that depend on `seed` alone; the global generator is kept.

    Raises:
        TypeError: the networks of the space cannot share weights.
    """
    if not hasattr(space, "assemble"):
        raise TypeError(f"the networks of {space.identifier} cannot share weights")
    with seeded_weights(seed):
        return Supernet(cast(SharedSpace, space), shape)
