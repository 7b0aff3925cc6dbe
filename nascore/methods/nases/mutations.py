"""Mutations of architectures. B strings of L tokens, 0-based, int64."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def single_token_neighbours(tokens_BL: Tensor, cardinalities: tuple[int, ...]) -> Tensor:
    """Return all strings that differ from one of these in one token, (B * sum of (V - 1), L)."""
    place_C, shift_C, size_C = _changes(cardinalities)
    neighbours_BCL = tokens_BL[:, None].repeat(1, len(place_C), 1)
    changed_BC = (tokens_BL[:, place_C] + shift_C) % size_C
    neighbours_BCL[:, torch.arange(len(place_C)), place_C] = changed_BC
    return neighbours_BCL.flatten(0, 1)


@functools.cache
def _changes(cardinalities: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the position, the shift and the number of values of each single change, (C,) each."""
    changes = [
        (place, shift, size) for place, size in enumerate(cardinalities) for shift in range(1, size)
    ]
    place_C, shift_C, size_C = torch.tensor(changes, dtype=torch.long).reshape(-1, 3).T
    return place_C, shift_C, size_C


def resample_tokens(
    tokens_BL: Tensor,
    cardinalities: Sequence[int],
    rng: np.random.Generator,
    *,
    expected_changes: float,
    random_share: float,
) -> Tensor:
    """Draw some tokens of each string again; a token may get its old value.

    Args:
        expected_changes: tokens drawn again in a string, geometrically distributed.
        random_share: probability that all tokens of a string are drawn again.

    Returns:
        The changed strings, (B, L).
    """
    random_BL = torch.from_numpy(rng.integers(cardinalities, size=tokens_BL.shape))
    count, length = tokens_BL.shape
    changes_B = np.zeros(count, dtype=np.int64)
    if expected_changes > 0:
        changes_B = rng.geometric(1 / max(1.0, expected_changes), size=count)
    changes_B[rng.random(count) < random_share] = length
    order_BL = rng.random(tokens_BL.shape).argsort(axis=1)
    return torch.where(torch.from_numpy(order_BL < changes_B[:, None]), random_BL, tokens_BL)
