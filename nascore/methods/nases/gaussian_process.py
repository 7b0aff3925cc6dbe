"""The critic of searches in an embedding: Gaussian processes that read what a point decodes to.

Two architectures are as far apart as their tokens are, each token with a weight of its own: one
that never matters should not keep two architectures apart. Tokens are apart when they are unequal
(`values`), or by how far apart their values are (`order`). The kernel is

    share * (1 - distance / sum of weights) + (1 - share) * exp(-distance):

main effects of single tokens, which generalise from few observations, and what several do together.
Weights, share and noise are fitted to the evidence under a prior, by gradient; since a few dozen
observations do not settle whether order matters, each answer has a process, and they are averaged
by their evidence.

N observations, M candidates, L tokens, C columns of the code, K kernels. Inference is exact: the
caller keeps N to a few hundred.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Metric = Literal["values", "order"]

_DISTANCE = 1.5  # expected between two random architectures, by the prior
_WEIGHT_SPREAD = 0.7  # deviations of the prior: of a token's log weight from their mean,
_DISTANCE_SPREAD = 1.0  # of the log distance,
_SHARE_SPREAD = 1.5  # of the log odds of the share of main effects,
_NOISE, _NOISE_SPREAD = 0.02, 1.5  # and the noise's variance, the signal's being 1, with its log's
_SCALE_COUNT = 2.0  # observations that the prior of the signal's variance, 1, is worth
_FIT_STEPS, _FIT_RATE = 15, 0.25
_LEAST_NOISE = 1e-4
_JITTER = 1e-6
_NEGLIGIBLE = 1e-3  # probability of a kernel that is left out


@functools.cache
def _columns(cardinalities: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Of each value of each token: the token, the value, and the root of the widest distance."""
    sizes_L = torch.tensor(cardinalities)
    token_V = torch.repeat_interleave(torch.arange(len(sizes_L)), sizes_L)
    value_V = torch.arange(len(token_V)) - (sizes_L.cumsum(0) - sizes_L)[token_V]
    return token_V, value_V, (sizes_L - 1).clamp(min=1).double()[token_V].sqrt()


class Features:
    """What the critic reads of N architectures.

    The code has a column for every value of every token twice: its indicator, and whether the token
    is above it, so that squared distances of codes add up to the distances of tokens.

    Args:
        tokens_NL: 0-based, int64.
    """

    def __init__(self, tokens_NL: Tensor, cardinalities: Sequence[int]) -> None:
        self.length = len(cardinalities)
        self.token_V, value_V, width_V = _columns(tuple(cardinalities))
        tokens_NV = tokens_NL[:, self.token_V]
        indicator_NV = (tokens_NV == value_V).double() / math.sqrt(2)
        above_NV = (tokens_NV > value_V) / width_V
        self.code_NC = torch.cat([indicator_NV, above_NV], dim=1)

    def __len__(self) -> int:
        return len(self.code_NC)


@dataclass(frozen=True)
class Kernels:
    """Hyperparameters of K kernels.

    Attributes:
        log_weight_KL: of the tokens.
        order_K: share of the order in a token's distance, the rest being inequality.
        share_K: log odds of the share of main effects.
        log_noise_K: variance of the noise, in units of the signal's.
        probability_K: of each kernel given the observations.
    """

    log_weight_KL: Tensor
    order_K: Tensor
    share_K: Tensor
    log_noise_K: Tensor
    probability_K: Tensor

    def __call__(self, a: Features, b: Features) -> Tensor:
        """(K, N, M)."""
        weight_KL = self.log_weight_KL.exp()
        weight_KV = weight_KL[:, a.token_V]
        order_K1 = self.order_K[:, None]
        weight_KC = torch.cat([(1 - order_K1) * weight_KV, order_K1 * weight_KV], dim=1)
        distance_KNM = _squared_distances(a.code_NC, b.code_NC, weight_KC)
        share_K11 = torch.sigmoid(self.share_K)[:, None, None]
        main_KNM = 1 - distance_KNM / weight_KL.sum(dim=1)[:, None, None]
        return share_K11 * main_KNM + (1 - share_K11) * torch.exp(-distance_KNM)

    def of_observations(self, features: Features) -> Tensor:
        """With the noise, (K, N, N)."""
        noise_KN = (self.log_noise_K.exp() + _JITTER)[:, None].expand(-1, len(features))
        return self(features, features) + torch.diag_embed(noise_KN)

    def log_prior(self) -> Tensor:
        """Up to a constant, (K,)."""
        mean_K = self.log_weight_KL.mean(dim=1)
        squares = [
            ((self.log_weight_KL - mean_K[:, None]) / _WEIGHT_SPREAD).square().sum(dim=1),
            ((mean_K - _usual_log_weight(self.log_weight_KL.shape[1])) / _DISTANCE_SPREAD).square(),
            (self.share_K / _SHARE_SPREAD).square(),
            ((self.log_noise_K - math.log(_NOISE)) / _NOISE_SPREAD).square(),
        ]
        return -0.5 * torch.stack(squares).sum(dim=0)


def fit_kernels(
    features: Features, y_N: Tensor, metrics: Sequence[Metric], *, relevance: bool = True
) -> Kernels:
    """The kernels that are most likely given the observations, one for each metric and mixture.

    Args:
        y_N: targets, about standard normal; the scale of the signal is integrated out.
        relevance: a weight a token; else all tokens have the same.
    """
    orders = [{"values": 0.0, "order": 1.0}[metric] for metric in metrics]
    orders += [sum(pair) / 2 for pair in itertools.combinations(orders, 2)]
    order_K = torch.tensor(orders, dtype=torch.float64)
    size = features.length if relevance else 1
    usual = _usual_log_weight(features.length)
    weight = torch.full((len(orders), size), usual, dtype=torch.float64, requires_grad=True)
    share = torch.zeros(len(orders), dtype=torch.float64, requires_grad=True)
    noise = torch.full_like(share, math.log(_NOISE)).detach().requires_grad_()

    def kernels(probability_K: Tensor) -> Kernels:
        weight_KL = weight.expand(-1, features.length)
        noise_K = noise.clamp(math.log(_LEAST_NOISE), 0)
        return Kernels(weight_KL, order_K, share, noise_K, probability_K)

    optimizer = torch.optim.Adam([weight, share, noise], lr=_FIT_RATE, betas=(0.8, 0.9))
    equal_K = torch.full_like(order_K, 1 / len(orders))
    with torch.enable_grad():
        for step in range(_FIT_STEPS):
            optimizer.param_groups[0]["lr"] = _FIT_RATE * (1 - step / _FIT_STEPS)
            optimizer.zero_grad(set_to_none=True)
            (-_log_posterior(kernels(equal_K), features, y_N).sum()).backward()
            optimizer.step()
    with torch.no_grad():
        fitted = kernels(equal_K)
        probability_K = torch.softmax(_log_posterior(fitted, features, y_N), dim=0)
        kept = probability_K > _NEGLIGIBLE
        return Kernels(
            fitted.log_weight_KL[kept].clone(),
            order_K[kept],
            fitted.share_K[kept].clone(),
            fitted.log_noise_K[kept],
            probability_K[kept] / probability_K[kept].sum(),
        )


class GaussianProcesses:
    """One zero-mean process a kernel; targets should be about standard normal."""

    def __init__(self, features: Features, y_N: Tensor, kernels: Kernels) -> None:
        self._features, self.kernels = features, kernels
        self._factor_KNN = torch.linalg.cholesky(kernels.of_observations(features))
        self._solved_KN1 = _solve(
            self._factor_KNN, y_N[:, None].expand(len(self._factor_KNN), -1, 1)
        )
        # Equal targets say nothing of the signal; the prior lets the uncertain win.
        self._scale_K = _signal(self._solved_KN1)
        # Without the luck of a noisy observation.
        self._best_K1 = self.predict(features)[0].max(dim=1, keepdim=True).values

    def predict(self, features: Features) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of the noise-free value, (K, M) each."""
        solved_KNM = _solve(self._factor_KNN, self.kernels(self._features, features))
        mean_KM = (solved_KNM.transpose(1, 2) @ self._solved_KN1)[:, :, 0]
        variance_KM = (1 - solved_KNM.square().sum(dim=1)).clamp(min=1e-9)
        return mean_KM, (variance_KM * self._scale_K[:, None]).sqrt()

    def mean(self, features: Features) -> Tensor:
        """Averaged over the kernels, (M,)."""
        mean_M: Tensor = self.kernels.probability_K @ self.predict(features)[0]
        return mean_M

    def expected_improvement(self, features: Features) -> Tensor:
        """E[max(0, f - best)] of each candidate, averaged over the kernels, (M,); the best is the
        best expected of those observed."""
        mean_KM, std_KM = self.predict(features)
        gain_KM = (mean_KM - self._best_K1) / std_KM
        density_KM = torch.exp(-0.5 * gain_KM**2) / math.sqrt(2 * math.pi)
        expected_KM = std_KM * (gain_KM * torch.special.ndtr(gain_KM) + density_KM)
        expected_M: Tensor = self.kernels.probability_K @ expected_KM
        return expected_M


def _log_posterior(kernels: Kernels, features: Features, y_N: Tensor) -> Tensor:
    """Up to a constant, the scale of the signal integrated out, (K,)."""
    factor_KNN = torch.linalg.cholesky(kernels.of_observations(features))
    solved_KN1 = _solve(factor_KNN, y_N[:, None].expand(len(factor_KNN), -1, 1))
    log_det_K = factor_KNN.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    misfit_K = 0.5 * (len(y_N) + _SCALE_COUNT) * _signal(solved_KN1).log()
    posterior_K: Tensor = kernels.log_prior() - misfit_K - log_det_K
    return posterior_K


def _signal(solved_KN1: Tensor) -> Tensor:
    """Variance of the signal, (K,)."""
    count = solved_KN1.shape[1]
    return (solved_KN1.square().sum(dim=(1, 2)) + _SCALE_COUNT) / (count + _SCALE_COUNT)


def _usual_log_weight(length: int) -> float:
    """Two random tokens are about 2/3 apart."""
    return math.log(_DISTANCE / (length * 2 / 3))


def _solve(factor_KNN: Tensor, right_KNM: Tensor) -> Tensor:
    solved_KNM: Tensor = torch.linalg.solve_triangular(factor_KNN, right_KNM, upper=False)
    return solved_KNM


def _squared_distances(a_NC: Tensor, b_MC: Tensor, weight_KC: Tensor) -> Tensor:
    """Weighted by column, (K, N, M)."""
    a_KN1 = (weight_KC @ a_NC.square().T)[:, :, None]
    b_K1M = (weight_KC @ b_MC.square().T)[:, None, :]
    shared_KNM = (a_NC * weight_KC[:, None, :]) @ b_MC.T
    return (a_KN1 + b_K1M - 2 * shared_KNM).clamp(min=0)
