"""A search space that is known by a table alone: one character per decision."""

import zlib
from collections.abc import Sequence

from torch import nn

from nascore.errors import GenotypeNotInSpace
from nascore.genotype import Genotype
from nascore.spaces.base import ArchitectureGraph, ImageShape, Phase, check, make_genotype


class CategoricalSpace:
    """`SearchSpace` of strings of one length; position i has the characters of `alphabets[i]`.

    The networks are unknown, so none counts as isomorphic to another and none can be built.
    """

    def __init__(self, alphabets: Sequence[str]) -> None:
        self.alphabets = tuple(alphabets)
        self.cardinalities = tuple(len(alphabet) for alphabet in self.alphabets)
        # The characters are part of the identity: spaces of equal sizes may differ.
        digest = zlib.crc32("\0".join(self.alphabets).encode())
        self.identifier = f"categorical-{len(self.alphabets)}-{digest:08x}"

    @classmethod
    def of(cls, architectures: Sequence[str]) -> "CategoricalSpace":
        """Return the smallest space that contains all architectures, which have one length."""
        positions = zip(*architectures, strict=True)
        return cls(["".join(sorted(set(characters))) for characters in positions])

    def parse(self, text: str) -> Genotype:
        """Return the genotype of a string of the table.

        Raises:
            GenotypeNotInSpace: it has another length, or an unknown character.
        """
        if len(text) != len(self.alphabets):
            raise GenotypeNotInSpace(
                f"has {len(text)} characters, expected {len(self.alphabets)}, one a decision"
            )
        tokens = [a.find(c) for a, c in zip(self.alphabets, text, strict=True)]
        return make_genotype(self, tokens)

    def canonical(self, genotype: Genotype) -> str:
        return self.describe(genotype)

    def describe(self, genotype: Genotype) -> str:
        """Return the string of the table."""
        check(self, genotype)
        pairs = zip(self.alphabets, genotype.tokens, strict=True)
        return "".join(alphabet[token] for alphabet, token in pairs)

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        """Raise GenotypeNotInSpace: a table has scores of networks, not the networks."""
        raise GenotypeNotInSpace(f"{self.identifier} is known by a table only, none can be built")

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Raise GenotypeNotInSpace, as `build` does."""
        raise GenotypeNotInSpace(f"{self.identifier} is known by a table only, none can be drawn")
