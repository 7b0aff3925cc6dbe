"""What a NASES search has seen, and the climbs it consists of."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.methods.common import reinforce
from nascore.methods.common.reinforce import Floats
from nascore.methods.nases.options import NasesOptions
from nascore.results import Child
from nascore.spaces.base import SearchSpace

_ROOM = 256  # children; grows by doubling


class History:
    """Ended children that have a score, in order; and the keys of every network proposed.

    A climb begins with random architectures and ends when nothing better has come for `patience`
    children. L tokens.

    Attributes:
        seen: `SearchSpace.canonical` of all children, those that failed too.
        climb: the first child of the present climb.
    """

    def __init__(self, space: SearchSpace, options: NasesOptions) -> None:
        self._space = space
        self._options = options
        self.seen: set[str] = set()
        self._count = 0
        self._tokens = torch.empty(_ROOM, len(space.cardinalities), dtype=torch.long)
        self._rewards: Floats = np.empty(_ROOM)
        self.climb = 0
        self._summit = 0  # its best one

    def add(self, child: Child) -> None:
        self.seen.add(self._space.canonical(child.genotype))
        if child.scores is None:
            return
        if self._count == len(self._rewards):
            self._tokens = torch.cat([self._tokens, torch.empty_like(self._tokens)])
            self._rewards = np.concatenate([self._rewards, np.empty_like(self._rewards)])
        valid, train = child.scores.valid, child.scores.train
        self._tokens[self._count] = torch.tensor(child.genotype.tokens)
        self._rewards[self._count] = (
            reinforce.gap_reward(valid, train) if self._options.gap_penalty else valid
        )
        self._follow_climb(self._count)
        self._count += 1

    def random_start(self) -> int:
        """The child with which the random start of the present climb is over."""
        first = self.climb == 0
        return self.climb + (
            self._options.num_random if first else self._options.num_restart_random
        )

    def _follow_climb(self, newest: int) -> None:
        """A climb ends when its best child was followed by `patience` that were not better, its
        random start not counted."""
        if newest == self.climb or self._rewards[newest] > self._rewards[self._summit]:
            self._summit = newest
        waited = newest - max(self._summit, self.random_start() - 1)
        if self._options.patience and waited >= self._options.patience:
            self.climb = newest + 1

    def __len__(self) -> int:
        return self._count

    @property
    def rewards(self) -> Floats:
        """Of all children with a score, (N,)."""
        return self._rewards[: self._count]

    def tokens(self, indices: NDArray[np.int64]) -> Tensor:
        """(len(indices), L), 0-based."""
        return self._tokens[torch.from_numpy(indices)]

    def elites(self, count: int) -> NDArray[np.int64]:
        """At most `count` children of the present climb, the best first."""
        best = np.argsort(-self.rewards[self.climb :], kind="stable")[:count]
        return best + self.climb
