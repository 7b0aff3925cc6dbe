"""What a proposing method is: it sees genotypes and results, and nothing of how they came about."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from nascore.genotype import Genotype
from nascore.results import Child

Pending = Mapping[int, Genotype]
NONE_PENDING: Pending = MappingProxyType({})


class Proposer(Protocol):
    """What a proposing method is. Call order: `update` for every ended child, then `suggest`.

    All randomness derives from the seed, the child's number and the updates so far: a proposer that
    is given the history of another proposes what the other would have.
    """

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        """The architecture of child `number`, counted from 0.

        Args:
            pending: children that other workers are training now, by number.
        """
        ...

    def update(self, child: Child) -> None:
        """Learns from an ended child; `child.scores` is None when it failed."""
        ...
