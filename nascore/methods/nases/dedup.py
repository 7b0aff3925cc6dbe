"""Which token strings are networks that nobody has proposed yet."""

import itertools
import math
from collections.abc import Container

import numpy as np
import torch
from torch import Tensor

from nascore.genotype import Genotype
from nascore.spaces import base
from nascore.spaces.base import SearchSpace

_NUM_KEYS = 50_000  # names of networks that are kept
_LISTED = 20_000  # token strings of a space that is small enough to be gone through

Tokens = tuple[int, ...]


class Networks:
    """Knows which strings are the same network; keeps the names, since the same strings come again
    and again."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._keys: dict[Tokens, str] = {}

    def new(self, tokens_ML: Tensor, known: Container[str]) -> Tensor:
        """Where those not in `known` stand in `tokens_ML`, in order.

        Each network once, as it is written first: of several ways to write it the critic would
        choose the one it knows least about.
        """
        found: dict[str, int] = {}
        for place, tokens in enumerate(map(tuple, tokens_ML.tolist())):
            key = self._key(tokens)
            if key not in known:
                found.setdefault(key, place)
        return torch.tensor(list(found.values()), dtype=torch.long)

    def _key(self, tokens: Tokens) -> str:
        key = self._keys.get(tokens)
        if key is None:
            if len(self._keys) >= _NUM_KEYS:
                self._keys.clear()
            genotype = Genotype(self._space.identifier, tokens)
            key = self._keys[tokens] = self._space.canonical(genotype)
        return key


def unseen(space: SearchSpace, seen: Container[str], rng: np.random.Generator) -> Genotype | None:
    """A random network that is new. A small space is gone through, and None says that nothing is
    left; in a large one a repeat is accepted after a while."""
    for _ in range(100):
        genotype = base.sample(space, rng)
        if space.canonical(genotype) not in seen:
            return genotype
    if math.prod(space.cardinalities) > _LISTED:
        return genotype
    listed = (
        Genotype(space.identifier, t) for t in itertools.product(*map(range, space.cardinalities))
    )
    return next((new for new in listed if space.canonical(new) not in seen), None)
