"""From architectures to others near them. B strings of L tokens, 0-based, int64."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def one_token_apart(tokens_BL: Tensor, cardinalities: tuple[int, ...]) -> Tensor:
    """All strings that differ from one of these in one token, (B * sum of (V - 1), L)."""
    place_C, shift_C, size_C = _changes(cardinalities)
    apart_BCL = tokens_BL[:, None].repeat(1, len(place_C), 1)
    apart_BCL[:, torch.arange(len(place_C)), place_C] = (tokens_BL[:, place_C] + shift_C) % size_C
    return apart_BCL.flatten(0, 1)


@functools.cache
def _changes(cardinalities: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Of each change of one token: which, by how much, and how many values it has, (C,) each."""
    changes = [
        (place, shift, size) for place, size in enumerate(cardinalities) for shift in range(1, size)
    ]
    place_C, shift_C, size_C = torch.tensor(changes, dtype=torch.long).reshape(-1, 3).T
    return place_C, shift_C, size_C


def redrawn(
    tokens_BL: Tensor,
    cardinalities: Sequence[int],
    rng: np.random.Generator,
    *,
    mean_changes: float,
    random_share: float,
) -> Tensor:
    """The strings with some of their tokens drawn anew, which may leave them as they are.

    Args:
        mean_changes: tokens that are drawn anew in a string, geometrically distributed.
        random_share: probability that all of a string's tokens are.
    """
    random_BL = torch.from_numpy(rng.integers(cardinalities, size=tokens_BL.shape))
    count, length = tokens_BL.shape
    changes_B = np.zeros(count, dtype=np.int64)
    if mean_changes > 0:
        changes_B = rng.geometric(1 / max(1.0, mean_changes), size=count)
    changes_B[rng.random(count) < random_share] = length
    order_BL = rng.random(tokens_BL.shape).argsort(axis=1)
    return torch.where(torch.from_numpy(order_BL < changes_B[:, None]), random_BL, tokens_BL)
