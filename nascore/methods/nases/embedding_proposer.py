"""The state that both proposers of NASES have: an autoencoder, settings and random streams."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from nascore.methods.nases.autoencoder import Autoencoder
from nascore.methods.nases.options import NasesOptions, NasesPaperOptions
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace

OptionsT = TypeVar("OptionsT", NasesOptions, NasesPaperOptions)


@dataclass(eq=False)
class EmbeddingProposer(Generic[OptionsT]):
    """A proposer that acts in the embedding of an autoencoder.

    Attributes:
        autoencoder: trained and frozen.
        stream: name of the random streams; proposers of one seed and different names are
            independent.
    """

    autoencoder: Autoencoder
    options: OptionsT
    space: SearchSpace
    seeds: Seeds
    stream: str = "method"

    def rng(self, purpose: str, number: int) -> np.random.Generator:
        """Return the generator of one purpose and one child."""
        return self.seeds.numpy(self.stream, purpose, number)
