"""Policies over the paths of a supernet, and the uniform policy, which is not trained.

N architectures, T tokens.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace

Reward = Callable[[Tensor], Tensor]
"""Token strings (N, T) -> their rewards (N,)."""


def uniform(num: int, cardinalities: Sequence[int], seeds: Seeds, *name: str | int) -> Tensor:
    """Sample uniform token strings, int64 (num, T); equal names give equal ones."""
    rng = seeds.numpy(*name)
    return torch.from_numpy(rng.integers(cardinalities, size=(num, len(cardinalities))))


class Policy(Protocol):
    """A policy over paths.

    Random numbers depend on the seed and on names alone, so `state` contains everything that later
    samples depend on.
    """

    def sample(self, num: int, *name: str | int) -> Tensor:
        """Sample token strings, int64 (num, T), on the CPU."""
        ...

    def update(self, number: int, reward: Reward) -> dict[str, float]:
        """Learn from the rewards of samples; return metrics."""
        ...

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, state: dict[str, Tensor]) -> None: ...


class UniformPolicy:
    """Samples token strings uniformly; it is not trained."""

    def __init__(self, space: SearchSpace, seeds: Seeds, stream: str) -> None:
        self._cardinalities, self._seeds, self._stream = space.cardinalities, seeds, stream

    def sample(self, num: int, *name: str | int) -> Tensor:
        return uniform(num, self._cardinalities, self._seeds, self._stream, "uniform", *name)

    def update(self, number: int, reward: Reward) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        assert not state
