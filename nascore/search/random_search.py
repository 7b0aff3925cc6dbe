"""Random search without repetition."""

from collections.abc import Callable, Container

import numpy as np

from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace

_TRIES = 100  # draws, after which the space counts as exhausted and a repetition is accepted


def sample_unseen(
    space: SearchSpace,
    rng: np.random.Generator,
    seen: Container[str],
    *,
    key: Callable[[Genotype], str],
) -> Genotype:
    """Draw uniformly from the token strings whose `key` is not in `seen`.

    After a hundred draws a string that was seen is returned.
    """
    for _ in range(_TRIES):
        genotype = base.sample(space, rng)
        if key(genotype) not in seen:
            break
    return genotype


class RandomSearch:
    """Uniform random search that does not propose the same network twice.

    A repeated architecture would waste a training, so this is the stronger baseline.
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
