"""Removes candidates whose networks were proposed before."""

import itertools
import math
from collections.abc import Container

import numpy as np
import torch
from torch import Tensor

from nascore.genotype import Genotype
from nascore.search.random_search import sample_unseen
from nascore.spaces.base import SearchSpace

_MAX_KEYS = 50_000  # cached keys of networks
_MAX_LISTED = 20_000  # token strings of a space that is small enough to be enumerated

Tokens = tuple[int, ...]


class Deduplicator:
    """Finds the strings that are new networks; caches their keys, since strings come repeatedly."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._keys: dict[Tokens, str] = {}

    def new_indices(self, tokens_ML: Tensor, seen: Container[str]) -> Tensor:
        """Return the rows of `tokens_ML` whose networks are not in `seen`, ascending.

        Of several strings for one network only the first is returned: the surrogate would otherwise
        choose the string about which it is least certain.
        """
        found: dict[str, int] = {}
        for place, tokens in enumerate(map(tuple, tokens_ML.tolist())):
            key = self._key(tokens)
            if key not in seen:
                found.setdefault(key, place)
        return torch.tensor(list(found.values()), dtype=torch.long)

    def _key(self, tokens: Tokens) -> str:
        key = self._keys.get(tokens)
        if key is None:
            if len(self._keys) >= _MAX_KEYS:
                self._keys.clear()
            genotype = Genotype(self._space.identifier, tokens)
            key = self._keys[tokens] = self._space.canonical(genotype)
        return key


def random_unseen(
    space: SearchSpace, seen: Container[str], rng: np.random.Generator
) -> Genotype | None:
    """Return a random network that is not in `seen`.

    A small space is enumerated, and None means that all of it was seen; in a large space a repeated
    network is returned when many draws find no other.
    """
    genotype = sample_unseen(space, rng, seen, key=space.canonical)
    is_large = math.prod(space.cardinalities) > _MAX_LISTED
    if is_large or space.canonical(genotype) not in seen:
        return genotype
    listed = (
        Genotype(space.identifier, tokens)
        for tokens in itertools.product(*map(range, space.cardinalities))
    )
    return next((new for new in listed if space.canonical(new) not in seen), None)
