"""The surrogate of NASES: Gaussian processes over the tokens of architectures.

The distance of two architectures is a weighted sum over their tokens, with a weight for each token,
so that a token without effect does not separate architectures. Two tokens differ either when they
are unequal, or by the distance of their values. The kernel is

    share * (1 - distance / sum of weights) + (1 - share) * exp(-distance):

main effects of single tokens, which generalise from few observations, plus joint effects. Weights,
share and noise maximise the posterior density, by gradient. A few dozen observations do not settle
whether the order of values matters, so there is one process for unequal tokens, one for ordered
tokens and one for the mean of both distances; predictions are averaged by their evidence.

Why not a library: BoTorch and GPyTorch are heavy and slower at this size, scikit-learn has no such
kernels. Inference is exact: the caller keeps N to a few hundred.

Shapes: N observations, M candidates, L tokens, C columns of the code, K kernels.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ORDERS = (0.0, 1.0, 0.5)  # share of the order in a token's distance, of each kernel
_DISTANCE = 1.5  # prior mean between two random architectures
_WEIGHT_SPREAD = 0.7  # prior deviations: of a token's log weight from their mean,
_DISTANCE_SPREAD = 1.0  # of the log distance,
_SHARE_SPREAD = 1.5  # of the log odds of the share of main effects,
_NOISE, _NOISE_SPREAD = 0.02, 1.5  # of the log noise variance, in units of the signal's
_SCALE_COUNT = 2.0  # weight in observations of the prior of the signal's variance, 1
_FIT_STEPS, _FIT_RATE = 15, 0.25
_MIN_NOISE = 1e-4
_JITTER = 1e-6
_NEGLIGIBLE = 1e-3  # kernels of a lower probability are dropped


@functools.cache
def _columns(cardinalities: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return token, value and root of the largest distance for each value of each token."""
    sizes_L = torch.tensor(cardinalities)
    token_V = torch.repeat_interleave(torch.arange(len(sizes_L)), sizes_L)
    value_V = torch.arange(len(token_V)) - (sizes_L.cumsum(0) - sizes_L)[token_V]
    return token_V, value_V, (sizes_L - 1).clamp(min=1).double()[token_V].sqrt()


class Features:
    """The code of N architectures, whose squared distances add up to the distances of tokens.

    It has two columns for each value of each token: whether the token has this value, and whether
    it is above it.

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
        log_weight_KL: log weights of the tokens.
        order_K: share of the order in a token's distance, the rest being inequality.
        share_K: log odds of the share of main effects.
        log_noise_K: log variance of the noise, in units of the signal's.
        probability_K: of each kernel given the observations.
    """

    log_weight_KL: Tensor
    order_K: Tensor
    share_K: Tensor
    log_noise_K: Tensor
    probability_K: Tensor

    def __call__(self, a: Features, b: Features) -> Tensor:
        """Return the covariances of the noise-free values, (K, N, M)."""
        weight_KL = self.log_weight_KL.exp()
        weight_KV = weight_KL[:, a.token_V]
        order_K1 = self.order_K[:, None]
        weight_KC = torch.cat([(1 - order_K1) * weight_KV, order_K1 * weight_KV], dim=1)
        distance_KNM = _squared_distances(a.code_NC, b.code_NC, weight_KC)
        share_K11 = torch.sigmoid(self.share_K)[:, None, None]
        main_KNM = 1 - distance_KNM / weight_KL.sum(dim=1)[:, None, None]
        return share_K11 * main_KNM + (1 - share_K11) * torch.exp(-distance_KNM)

    def of_observations(self, features: Features) -> Tensor:
        """Return the covariances with the noise, (K, N, N)."""
        noise_KN = (self.log_noise_K.exp() + _JITTER)[:, None].expand(-1, len(features))
        return self(features, features) + torch.diag_embed(noise_KN)

    def log_prior(self) -> Tensor:
        """Return the log prior density up to a constant, (K,)."""
        mean_K = self.log_weight_KL.mean(dim=1)
        squares = [
            ((self.log_weight_KL - mean_K[:, None]) / _WEIGHT_SPREAD).square().sum(dim=1),
            ((mean_K - _prior_log_weight(self.log_weight_KL.shape[1])) / _DISTANCE_SPREAD).square(),
            (self.share_K / _SHARE_SPREAD).square(),
            ((self.log_noise_K - math.log(_NOISE)) / _NOISE_SPREAD).square(),
        ]
        return -0.5 * torch.stack(squares).sum(dim=0)


def fit_kernels(features: Features, y_N: Tensor, *, relevance: bool = True) -> Kernels:
    """Fit kernels to observations: the most probable parameters for each share of the order.

    Args:
        y_N: targets, about standard normal; the scale of the signal is integrated out.
        relevance: whether each token has its own weight; else all tokens share one.

    Returns:
        The kernels whose probability is not negligible.
    """
    order_K = torch.tensor(_ORDERS, dtype=torch.float64)
    size = features.length if relevance else 1
    initial = _prior_log_weight(features.length)
    weight = torch.full((len(_ORDERS), size), initial, dtype=torch.float64, requires_grad=True)
    share = torch.zeros(len(_ORDERS), dtype=torch.float64, requires_grad=True)
    noise = torch.full_like(share, math.log(_NOISE)).detach().requires_grad_()

    def kernels(probability_K: Tensor) -> Kernels:
        weight_KL = weight.expand(-1, features.length)
        noise_K = noise.clamp(math.log(_MIN_NOISE), 0)
        return Kernels(weight_KL, order_K, share, noise_K, probability_K)

    optimizer = torch.optim.Adam([weight, share, noise], lr=_FIT_RATE, betas=(0.8, 0.9))
    equal_K = torch.full_like(order_K, 1 / len(_ORDERS))
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
    """One zero-mean process per kernel; targets should be about standard normal."""

    def __init__(self, features: Features, y_N: Tensor, kernels: Kernels) -> None:
        self._features, self.kernels = features, kernels
        self._factor_KNN = torch.linalg.cholesky(kernels.of_observations(features))
        self._solved_KN1 = _solve(
            self._factor_KNN, y_N[:, None].expand(len(self._factor_KNN), -1, 1)
        )
        # Equal targets carry no information about the signal; the prior makes its variance 1 then.
        self._scale_K = _signal(self._solved_KN1)
        # The best noise-free value, so that one lucky observation does not end the search.
        self._best_K1 = self.predict(features)[0].max(dim=1, keepdim=True).values

    def predict(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return posterior mean and standard deviation of the noise-free value, (K, M) each."""
        solved_KNM = _solve(self._factor_KNN, self.kernels(self._features, features))
        mean_KM = (solved_KNM.transpose(1, 2) @ self._solved_KN1)[:, :, 0]
        variance_KM = (1 - solved_KNM.square().sum(dim=1)).clamp(min=1e-9)
        return mean_KM, (variance_KM * self._scale_K[:, None]).sqrt()

    def mean(self, features: Features) -> Tensor:
        """Return the posterior mean, averaged over the kernels, (M,)."""
        mean_M: Tensor = self.kernels.probability_K @ self.predict(features)[0]
        return mean_M

    def expected_improvement(self, features: Features) -> Tensor:
        """Return E[max(0, f - best)] of each candidate, averaged over the kernels, (M,).

        `best` is the highest posterior mean among the observations.
        """
        mean_KM, std_KM = self.predict(features)
        gain_KM = (mean_KM - self._best_K1) / std_KM
        density_KM = torch.exp(-0.5 * gain_KM**2) / math.sqrt(2 * math.pi)
        expected_KM = std_KM * (gain_KM * torch.special.ndtr(gain_KM) + density_KM)
        expected_M: Tensor = self.kernels.probability_K @ expected_KM
        return expected_M


def _log_posterior(kernels: Kernels, features: Features, y_N: Tensor) -> Tensor:
    """Return the log posterior up to a constant, the signal's scale integrated out, (K,)."""
    factor_KNN = torch.linalg.cholesky(kernels.of_observations(features))
    solved_KN1 = _solve(factor_KNN, y_N[:, None].expand(len(factor_KNN), -1, 1))
    log_det_K = factor_KNN.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    misfit_K = 0.5 * (len(y_N) + _SCALE_COUNT) * _signal(solved_KN1).log()
    posterior_K: Tensor = kernels.log_prior() - misfit_K - log_det_K
    return posterior_K


def _signal(solved_KN1: Tensor) -> Tensor:
    """Return the variance of the signal, (K,)."""
    count = solved_KN1.shape[1]
    return (solved_KN1.square().sum(dim=(1, 2)) + _SCALE_COUNT) / (count + _SCALE_COUNT)


def _prior_log_weight(length: int) -> float:
    """Return the prior mean of a token's log weight; two random tokens are about 2/3 apart."""
    return math.log(_DISTANCE / (length * 2 / 3))


def _solve(factor_KNN: Tensor, right_KNM: Tensor) -> Tensor:
    solved_KNM: Tensor = torch.linalg.solve_triangular(factor_KNN, right_KNM, upper=False)
    return solved_KNM


def _squared_distances(a_NC: Tensor, b_MC: Tensor, weight_KC: Tensor) -> Tensor:
    """Return squared distances weighted by column, (K, N, M)."""
    a_KN1 = (weight_KC @ a_NC.square().T)[:, :, None]
    b_K1M = (weight_KC @ b_MC.square().T)[:, None, :]
    shared_KNM = (a_NC * weight_KC[:, None, :]) @ b_MC.T
    return (a_KN1 + b_K1M - 2 * shared_KNM).clamp(min=0)
