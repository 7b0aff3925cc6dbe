"""A proposer of one architecture."""

from dataclasses import dataclass

from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending


@dataclass(frozen=True, slots=True)
class FixedProposer:
    """`nascore.search.proposer.Proposer` that always proposes the same architecture."""

    genotype: Genotype

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        return self.genotype

    def update(self, child: Child) -> None:
        """Ignore the child: there is nothing to learn."""
