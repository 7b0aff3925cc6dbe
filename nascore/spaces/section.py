"""Settings that all search spaces have."""

from abc import abstractmethod
from typing import Any, ClassVar

from nascore.section import Section


class SpaceSection(Section):
    """Settings of a search space; `name` selects the space."""

    name: str
    """Search space."""
    implementation: ClassVar[str]
    """Dotted name of the class of the space (`nascore.spaces.base.SearchSpace`)."""
    shares_weights: ClassVar[bool] = False
    """Whether all its networks can be paths of one supernet."""
    network_kind: ClassVar[str] = "static"
    """Kind of its networks whose operations `nas profile` times
    (`nascore.training.network_kinds`)."""

    @property
    @abstractmethod
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of each token of a genotype."""


def _without_repeats(operations: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted({name for name in operations if operations.count(name) > 1})
    if repeated:
        raise ValueError(f"give each operation once; {', '.join(repeated)} is there several times")
    return operations


def _of_blocks(num_blocks: int, num_operations: int) -> tuple[int, ...]:
    """Return the numbers of values of blocks: two input nodes and two operations each."""
    halves = [(2 + block, num_operations) * 2 for block in range(num_blocks)]
    return tuple(size for half in halves for size in half)
