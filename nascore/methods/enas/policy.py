"""What decides on the paths of a supernet, and the policy that learns nothing.

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
    """Uniform token strings, int64 (num, T); equal names give equal ones."""
    rng = seeds.numpy(*name)
    return torch.from_numpy(rng.integers(cardinalities, size=(num, len(cardinalities))))


class Policy(Protocol):
    """What decides on paths. Random numbers come from the seed and the names given, so `state`
    holds all that its future depends on."""

    def sample(self, num: int, *name: str | int) -> Tensor:
        """Token strings, int64 (num, T), on the CPU."""
        ...

    def update(self, number: int, reward: Reward) -> dict[str, float]:
        """Learns from the rewards of what it samples; returns metrics."""
        ...

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, state: dict[str, Tensor]) -> None: ...


class UniformPolicy:
    """Every token string is as likely as any other, and nothing is learned."""

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
