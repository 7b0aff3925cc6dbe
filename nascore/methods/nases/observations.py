"""Children that a NASES search has observed, and its restarts."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.methods.common import reinforce
from nascore.methods.common.reinforce import Floats
from nascore.methods.nases.options import NasesOptions
from nascore.results import Child
from nascore.spaces.base import SearchSpace

_INITIAL_CAPACITY = 256  # children; doubled when full


class Observations:
    """Finished children in order; and the keys of every network proposed.

    A climb begins with random architectures and ends when `patience` children in a row were not
    better than its best; the search then restarts. Shapes: L tokens, N children.

    Attributes:
        seen: `SearchSpace.canonical` of all children, failed ones included.
        restart: index of the first child of the current climb.
    """

    def __init__(self, space: SearchSpace, options: NasesOptions) -> None:
        self._space = space
        self._options = options
        self.seen: set[str] = set()
        self._count = 0
        self._tokens = torch.empty(_INITIAL_CAPACITY, len(space.cardinalities), dtype=torch.long)
        self._rewards: Floats = np.empty(_INITIAL_CAPACITY)
        self.restart = 0
        self._best = 0  # index of the best child of the current climb

    def add(self, child: Child) -> None:
        """Add a child that has ended."""
        self.seen.add(self._space.canonical(child.genotype))
        if child.objective is None:
            return
        if self._count == len(self._rewards):
            self._tokens = torch.cat([self._tokens, torch.empty_like(self._tokens)])
            self._rewards = np.concatenate([self._rewards, np.empty_like(self._rewards)])
        self._tokens[self._count] = torch.tensor(child.genotype.tokens)
        self._rewards[self._count] = _reward(child.objective, child.train_objective)
        self._restart_if_stuck(self._count)
        self._count += 1

    def random_until(self) -> int:
        """Return the index of the first child of the current climb that the policy proposes."""
        is_first = self.restart == 0
        num_random = self._options.num_random if is_first else self._options.num_restart_random
        return self.restart + num_random

    def _restart_if_stuck(self, newest: int) -> None:
        """Restart when `patience` children were not better; random ones do not count."""
        if newest == self.restart or self._rewards[newest] > self._rewards[self._best]:
            self._best = newest
        waited = newest - max(self._best, self.random_until() - 1)
        if self._options.patience and waited >= self._options.patience:
            self.restart = newest + 1

    def __len__(self) -> int:
        return self._count

    @property
    def rewards(self) -> Floats:
        """Rewards of all finished children, (N,)."""
        return self._rewards[: self._count]

    def tokens(self, indices: NDArray[np.int64]) -> Tensor:
        """Return 0-based tokens, (len(indices), L)."""
        return self._tokens[torch.from_numpy(indices)]

    def elites(self, count: int) -> NDArray[np.int64]:
        """Return the indices of the best children of the current climb, at most `count`, sorted."""
        best = np.argsort(-self.rewards[self.restart :], kind="stable")[:count]
        return best + self.restart


def _reward(valid: float, train: float | None) -> float:
    """Return the reward of NASES; the objective itself where none was measured in training."""
    return valid if train is None else reinforce.gap_reward(valid, train)
