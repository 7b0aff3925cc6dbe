"""The mathematics of policy gradients, as pure functions. B samples, E action dimensions."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def gap_reward(valid_accuracy: float, train_accuracy: float) -> float:
    """r = (acc_valid - (acc_train - acc_valid))^3 = (2 acc_valid - acc_train)^3.

    The bracket penalises the generalisation gap; the cube sharpens differences among good networks.
    Source: NASES, arXiv 1909.03615, released code. Both accuracies are fractions.
    """
    return (2 * valid_accuracy - train_accuracy) ** 3


def standardise(rewards: Floats) -> Floats:
    """Zero mean, unit variance; zeros while there is nothing to compare (under two, or all equal).

    NASES standardises all rewards so far; these z-scores are its advantages.
    """
    if len(rewards) < 2:
        return np.zeros_like(rewards)
    deviation = rewards.std()
    if deviation == 0:
        return np.zeros_like(rewards)
    return np.asarray((rewards - rewards.mean()) / deviation)


def rank_to_normal(values: Floats) -> Floats:
    """Values replaced by the normal quantiles of their ranks (ties share their mean rank).

    Accuracies have a long lower tail that a squared loss would spend itself on; order is what
    matters. Quantiles are of (rank - 1/2) / n, by the inverse error function.
    """
    n = len(values)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts)
    mean_rank = upper - (counts - 1) / 2
    levels = torch.from_numpy((mean_rank[inverse] - 0.5) / n)
    return np.asarray(torch.erfinv(2 * levels - 1).numpy() * math.sqrt(2))


def gaussian_log_prob(z_BE: Tensor, mean_BE: Tensor, sigma: float) -> Tensor:
    """log N(z; mean, sigma^2 I), summed over the dimensions, (B,)."""
    squared_B = ((z_BE - mean_BE) ** 2).sum(dim=1)
    size = z_BE.shape[1]
    return -squared_B / (2 * sigma**2) - size * (math.log(sigma) + 0.5 * math.log(2 * math.pi))


def reinforce_loss(log_prob_B: Tensor, advantage_B: Tensor) -> Tensor:
    """L = -mean_b A_b log pi(a_b | s_b); Williams 1992. The advantage carries no gradient."""
    return -(advantage_B.detach() * log_prob_B).mean()
