"""Interface of search spaces, and functions that work on all of them.

A method uses a space only through `SearchSpace`, so a new space works with every method that
proposes token strings.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import lt
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
from torch import nn

from nascore.errors import GenotypeNotInSpace
from nascore.genotype import Genotype
from nascore.spaces.dag import LabelledDag

Phase = Literal["search", "final"]


@dataclass(frozen=True, slots=True)
class ImageShape:
    """Input and output of a network: (B, channels, size, size) -> (B, num_classes)."""

    channels: int
    size: int
    num_classes: int


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of a drawn architecture.

    Attributes:
        kind: selects the colour: input, output, conv, separable, pool, skip, sum.
    """

    id: str
    label: str
    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ArchitectureGraph:
    """A directed acyclic graph to draw; edges are (source, target, label)."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[tuple[str, str, str], ...]


class SearchSpace(Protocol):
    """A finite set of architectures, each one a string of tokens.

    Attributes:
        identifier: stands for length, vocabularies and meaning; genotypes contain it.
        cardinalities: number of values of each token.
    """

    identifier: str
    cardinalities: tuple[int, ...]

    def canonical(self, genotype: Genotype) -> str:
        """Return a key that is equal for genotypes of the same (isomorphic) network."""
        ...

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        """Build a network with initial weights, (B, C, H, W) float -> logits (B, num_classes).

        The weights come from torch's default generator: see `nascore.seeding.seeded_weights`.

        Args:
            genotype: of this space.
            shape: of the images and classes.
            phase: the final network, or the smaller one of the search.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        ...

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """Return the architecture as a graph to draw."""
        ...

    def describe(self, genotype: Genotype) -> str:
        """Return one line of text, for logs and tables."""
        ...


class SharedSpace(SearchSpace, Protocol):
    """A space whose networks can be paths of one supernet (`nascore.training.supernet`)."""

    def assemble(
        self,
        genotype: Genotype,
        shape: ImageShape,
        parts: Callable[[str, Callable[[], nn.Module]], nn.Module],
        phase: Phase = "search",
    ) -> nn.Module:
        """Build a network whose modules with weights come from `nascore.spaces.parts`."""
        ...

    def covering(self) -> Iterable[Genotype]:
        """Yield architectures that together contain every part of the space."""
        ...

    def dag(self, genotype: Genotype) -> LabelledDag:
        """Return the architecture as a labelled graph, to compare it with others."""
        ...


@runtime_checkable
class StandardSpace(SearchSpace, Protocol):
    """A space that contains the network which an engineer would use without a search."""

    @property
    def standard(self) -> Genotype:
        """Its genotype: the first child of every search of the space."""
        ...

    @property
    def equal_computation(self) -> bool:
        """Whether networks are trained for equal computation instead of equally many updates."""
        ...

    def relative_cost(self, genotype: Genotype, shape: ImageShape) -> float:
        """Return how long a weight update takes relative to one of the standard network."""
        ...


@runtime_checkable
class BoundedSpace(SearchSpace, Protocol):
    """A space with networks that are not worth a training."""

    def refusal(self, genotype: Genotype, shape: ImageShape) -> str | None:
        """Return why a network is not trained; None if it may be."""
        ...


# --- functions for all spaces ----------------------------------------------------


def restriction(allowed: tuple[int, ...], number: int) -> str:
    """Return the end of a space's identifier when only some of `number` operations are allowed."""
    return "" if allowed == tuple(range(number)) else "-ops" + "".join(map(str, allowed))


def make_genotype(space: SearchSpace, tokens: Any) -> Genotype:
    """Return a genotype of `space`; raise GenotypeNotInSpace when the tokens do not fit."""
    genotype = Genotype(space.identifier, tuple(int(token) for token in tokens))
    check(space, genotype)
    return genotype


def check(space: SearchSpace, genotype: Genotype) -> None:
    """Raise GenotypeNotInSpace with the invalid token."""
    if genotype.space != space.identifier:
        raise GenotypeNotInSpace(
            f"genotype is of space {genotype.space!r}, expected {space.identifier!r}"
        )
    if len(genotype.tokens) != len(space.cardinalities):
        raise GenotypeNotInSpace(
            f"{space.identifier} has {len(space.cardinalities)} tokens, got {len(genotype.tokens)}"
        )
    if all(map(lt, genotype.tokens, space.cardinalities)) and min(genotype.tokens) >= 0:
        return
    for position, (token, size) in enumerate(
        zip(genotype.tokens, space.cardinalities, strict=True)
    ):
        if not 0 <= token < size:
            raise GenotypeNotInSpace(f"token {position} must be in 0..{size - 1}, got {token}")


def sample(space: SearchSpace, rng: np.random.Generator) -> Genotype:
    """Draw a genotype, uniform over token strings."""
    return Genotype(space.identifier, tuple(rng.integers(space.cardinalities).tolist()))


def mutate(space: SearchSpace, genotype: Genotype, rng: np.random.Generator) -> Genotype:
    """Change one token; the result always differs as a string."""
    free = [i for i, size in enumerate(space.cardinalities) if size > 1]
    position = int(rng.choice(free))
    shift = int(rng.integers(1, space.cardinalities[position]))
    tokens = list(genotype.tokens)
    tokens[position] = (tokens[position] + shift) % space.cardinalities[position]
    return Genotype(space.identifier, tuple(tokens))


def neighbours(space: SearchSpace, genotype: Genotype) -> Iterator[Genotype]:
    """Yield the genotypes that differ in exactly one token, in a fixed order."""
    for position, size in enumerate(space.cardinalities):
        for token in range(size):
            if token != genotype.tokens[position]:
                tokens = list(genotype.tokens)
                tokens[position] = token
                yield Genotype(space.identifier, tuple(tokens))


def make_space(config: Any) -> SearchSpace:
    """Return the space that a section of the configuration (`SpaceSection`) describes."""
    module, _, name = config.implementation.rpartition(".")
    return cast(SearchSpace, getattr(importlib.import_module(module), name)(config))
