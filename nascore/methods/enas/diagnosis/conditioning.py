"""Dependence of the policy on the tokens that it has emitted before.

For each position, the mean Kullback-Leibler divergence between the distributions after two
different prefixes, over all pairs of prefixes of a set of architectures:

    mean over (a, a') of KL( pi(. | a_<t) || pi(. | a'_<t) ),   in nats

Near zero, the policy ignores earlier tokens. Among prefixes that end in the same token, it measures
the dependence beyond the last token: a controller whose state is reset at each step (the zero-state
bug) depends on the last token alone. The measure is ours; arXiv 1904.00438 names none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nascore.methods.enas.controller import Controller

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Mean divergence by position, in nats; None where there is no pair of different prefixes.

    Attributes:
        mean_kl: mean over all pairs.
        mean_kl_beyond_last: mean over pairs whose last tokens are equal.
    """

    mean_kl: tuple[float | None, ...]
    mean_kl_beyond_last: tuple[float | None, ...]


def conditioning(controller: Controller, tokens_NT: Tensor) -> Conditioning:
    """Measure a controller on the prefixes of N architectures."""
    tokens = tokens_NT.numpy()
    together_N = np.zeros(len(tokens), dtype=np.int64)
    over_all, beyond_last = [], []
    for t, log_probs_NK in enumerate(controller.distributions(tokens_NT)):
        log_probs = log_probs_NK.double().numpy()
        _, prefix_N = np.unique(tokens[:, :t], axis=0, return_inverse=True)
        over_all.append(_mean_kl(log_probs, prefix_N, together_N))
        beyond_last.append(_mean_kl(log_probs, prefix_N, tokens[:, t - 1]) if t > 1 else None)
    return Conditioning(tuple(over_all), tuple(beyond_last))


def mean(values: tuple[float | None, ...]) -> float | None:
    """Return the mean over the positions that have a value."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_kl(log_probs_NK: Floats, prefix_N: Ints, group_N: Ints) -> float | None:
    """Return the mean over ordered pairs of one group with different prefixes.

    Pairs with equal prefixes have no divergence, so the sum may go over all pairs of a group:
    sum_ij p_i (log p_i - log p_j) = n sum_i p_i log p_i - (sum_i p_i) (sum_j log p_j).
    """
    total, num_pairs = 0.0, 0
    for group in np.unique(group_N):
        log_p_GK = log_probs_NK[group_N == group]
        p_GK = np.exp(log_p_GK)
        total += len(p_GK) * float((p_GK * log_p_GK).sum())
        total -= float(p_GK.sum(axis=0) @ log_p_GK.sum(axis=0))
        same = np.bincount(prefix_N[group_N == group])
        num_pairs += len(p_GK) ** 2 - int((same**2).sum())
    return max(0.0, total / num_pairs) if num_pairs else None
