"""Random search without repetition."""

from collections.abc import Callable, Container

import numpy as np

from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace

_TRIES = 100  # draws before an architecture that was seen is accepted: the space is exhausted


def sample_unseen(
    space: SearchSpace,
    rng: np.random.Generator,
    seen: Container[str],
    *,
    key: Callable[[Genotype], str],
) -> Genotype:
    """Uniform over the token strings whose `key` is not in `seen`.

    One that was seen is returned when a hundred draws found no other.
    """
    for _ in range(_TRIES):
        genotype = base.sample(space, rng)
        if key(genotype) not in seen:
            break
    return genotype


class RandomSearch:
    """Uniform over token strings, without proposing the same network twice.

    Not repeating makes it the stronger baseline: a repeated architecture would waste a training.
    """

    def __init__(self, space: SearchSpace, seeds: Seeds, stream: str) -> None:
        self._space, self._seeds, self._stream = space, seeds, stream
        self._seen: set[str] = set()

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        rng = self._seeds.numpy(self._stream, "suggest", number)
        seen = self._seen | {self._space.canonical(genotype) for genotype in pending.values()}
        return sample_unseen(self._space, rng, seen, key=self._space.canonical)

    def update(self, child: Child) -> None:
        self._seen.add(self._space.canonical(child.genotype))
