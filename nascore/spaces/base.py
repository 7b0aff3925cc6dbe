"""Search spaces: what an architecture may be, and the network that one stands for.

A method sees a space only through `SearchSpace`; length and vocabularies come from it, so a new
space works with every method that proposes token strings. One module a space, one line here.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import lt
from typing import Any, Literal, Protocol, cast

import numpy as np
from torch import nn

from nascore.errors import GenotypeNotInSpace
from nascore.genotype import Genotype
from nascore.spaces.dag import LabelledDag

Phase = Literal["search", "final"]


@dataclass(frozen=True, slots=True)
class ImageShape:
    """What a network reads and answers: (B, channels, size, size) -> (B, num_classes)."""

    channels: int
    size: int
    num_classes: int


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of a drawn architecture. `kind` chooses the colour: input, output, conv,
    separable, pool, skip, sum."""

    id: str
    label: str
    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ArchitectureGraph:
    """A directed acyclic graph for a person to look at; edges are (source, target, label)."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[tuple[str, str, str], ...]


class SearchSpace(Protocol):
    """A finite set of architectures, each one a string of tokens.

    `identifier` names length, vocabularies and meaning; genotypes carry it. `cardinalities[i]`
    is the number of values of token i.
    """

    identifier: str
    cardinalities: tuple[int, ...]

    def canonical(self, genotype: Genotype) -> str:
        """A key that is equal for genotypes whose networks are the same (isomorphic)."""
        ...

    def build(self, genotype: Genotype, shape: ImageShape, phase: Phase = "search") -> nn.Module:
        """A freshly initialised network, (B, C, H, W) float -> logits (B, num_classes).

        Uses torch's default generator for the initial weights: fork and seed it around the call.

        Raises:
            GenotypeNotInSpace: the genotype is not one of this space.
        """
        ...

    def graph(self, genotype: Genotype, shape: ImageShape) -> ArchitectureGraph:
        """The architecture as a person would draw it."""
        ...

    def describe(self, genotype: Genotype) -> str:
        """One line of text, for logs and tables."""
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
        """`build`, with all that has weights from `parts` (see `nascore.spaces.parts`)."""
        ...

    def covering(self) -> Iterable[Genotype]:
        """Architectures that have, all together, every part of the space."""
        ...

    def dag(self, genotype: Genotype) -> LabelledDag:
        """The architecture as a graph that others can be held against; raises as `build` does."""
        ...


# --- functions that hold for every space ----------------------------------------------------


def restriction(allowed: tuple[int, ...], number: int) -> str:
    """What a space's identifier ends in when not all of its `number` operations are allowed."""
    return "" if allowed == tuple(range(number)) else "-ops" + "".join(map(str, allowed))


def make_genotype(space: SearchSpace, tokens: Any) -> Genotype:
    """A genotype of `space`; raises GenotypeNotInSpace when the tokens do not fit."""
    genotype = Genotype(space.identifier, tuple(int(token) for token in tokens))
    check(space, genotype)
    return genotype


def check(space: SearchSpace, genotype: Genotype) -> None:
    """Raises GenotypeNotInSpace, saying which token is wrong."""
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
    """Uniform over token strings."""
    return Genotype(space.identifier, tuple(rng.integers(space.cardinalities).tolist()))


def mutate(space: SearchSpace, genotype: Genotype, rng: np.random.Generator) -> Genotype:
    """Another value for one token that has a choice; the result always differs as a string."""
    free = [i for i, size in enumerate(space.cardinalities) if size > 1]
    position = int(rng.choice(free))
    shift = int(rng.integers(1, space.cardinalities[position]))
    tokens = list(genotype.tokens)
    tokens[position] = (tokens[position] + shift) % space.cardinalities[position]
    return Genotype(space.identifier, tuple(tokens))


def neighbours(space: SearchSpace, genotype: Genotype) -> Iterator[Genotype]:
    """All genotypes that differ in exactly one token, in a fixed order."""
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
