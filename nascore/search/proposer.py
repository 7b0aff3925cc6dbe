"""The interface of a proposing method, which sees genotypes and results only."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from nascore.genotype import Genotype
from nascore.results import Child

Pending = Mapping[int, Genotype]
NONE_PENDING: Pending = MappingProxyType({})


class Proposer(Protocol):
    """A method that proposes children. Call order: `update` for every ended child, then `suggest`.

    All randomness derives from the seed, the number of the child and the updates so far: a proposer
    with the history of another proposes the same.
    """

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        """Return the architecture of child `number`, counted from 0.

        Args:
            pending: children that other workers are training now, by number.
        """
        ...

    def update(self, child: Child) -> None:
        """Learn from an ended child; `child.objective` is None when it did not finish."""
        ...
