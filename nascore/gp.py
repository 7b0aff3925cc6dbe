"""The critic of searches in an embedding: a Gaussian process that reads what a point decodes to.

Architectures are compared by three distances, each between 0 and about 1: the share of unequal
tokens (`values`), how far apart their tokens are (`order`), and how far apart their points in the
embedding are (`embedding`). Which of them, or which mixture of two, tells good from bad depends on
the space, and a few dozen observations say so: kernel and noise are chosen by evidence.

The kernel is `a * k_main + (1 - a) * k_joint`: main effects of single tokens, which generalise from
few observations, and what several do together, `exp(-distance / length scale)`.

N observations, M candidates, L tokens, E embedding, V values, K kernels. Inference is exact: the
caller keeps N to a few hundred.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Metric = Literal["values", "order", "embedding"]

_LENGTH_SCALES = (0.3, 0.6, 1.2, 2.4)  # divided by the root of the number of tokens
_MAIN_SHARES = (0.0, 0.3, 0.7)
_NOISES = (1e-3, 1e-2, 1e-1)  # variance of the noise, the signal's being 1
_JITTER = 1e-6


class Features:
    """What the critic reads of N architectures.

    Args:
        tokens_NL: of the decoded architectures, int64.
        z_NE: their points in the embedding, in (0, 1).
    """

    def __init__(self, tokens_NL: Tensor, z_NE: Tensor, cardinalities: Sequence[int]) -> None:
        self.length = len(cardinalities)
        sizes_L = torch.tensor(cardinalities)
        token_V = torch.repeat_interleave(torch.arange(self.length), sizes_L)
        value_V = torch.arange(len(token_V)) - (sizes_L.cumsum(0) - sizes_L)[token_V]
        tokens_NV = tokens_NL[:, token_V]
        self.values_NV = (tokens_NV == value_V).double()
        # Thermometer code: two tokens differ in as many places as they are apart.
        widths_L = (sizes_L - 1).clamp(min=1).double().sqrt()
        self.order_NV = (tokens_NV > value_V) / widths_L[token_V]
        self.z_NE = z_NE.double()

    def distances(self, other: "Features", metric: Metric) -> tuple[Tensor, Tensor]:
        """Distance and kernel of main effects, (N, M) each."""
        if metric == "values":
            distance = 1 - self.values_NV @ other.values_NV.T / self.length
            return distance, 1 - distance
        if metric == "order":
            distance = _squared_distances(self.order_NV, other.order_NV) / self.length
            return distance, 1 - distance
        unit = 6 / self.z_NE.shape[1]  # two uniform coordinates are 1/6 apart, squared
        directions = [torch.nn.functional.normalize(x.z_NE - 0.5) for x in (self, other)]
        return (
            unit * _squared_distances(self.z_NE, other.z_NE),
            directions[0] @ directions[1].T,
        )


@dataclass(frozen=True)
class Kernel:
    """Hyperparameters; several metrics are averaged."""

    metrics: tuple[Metric, ...]
    length_scale: float
    main_share: float
    noise: float

    def __call__(self, a: Features, b: Features) -> Tensor:
        pairs = [a.distances(b, metric) for metric in self.metrics]
        distance, main = (torch.stack([pair[part] for pair in pairs]).mean(0) for part in (0, 1))
        joint = torch.exp(-distance * (a.length**0.5 / self.length_scale))
        return self.main_share * main + (1 - self.main_share) * joint


def choose_kernel(features: Features, y_N: Tensor, metrics: Sequence[Metric]) -> Kernel:
    """The kernel and noise under which the observations are most likely; a grid of a few hundred.

    Args:
        y_N: targets, about standard normal; the scale of the signal is fitted in closed form.
    """
    mixtures: list[tuple[Metric, ...]] = [(metric,) for metric in metrics]
    mixtures += itertools.combinations(metrics, 2)
    pairs = {metric: features.distances(features, metric) for metric in metrics}
    kernels, matrices = [], []
    eye = torch.eye(len(y_N), dtype=torch.float64)
    for names in mixtures:
        distance, main = (
            torch.stack([pairs[name][part] for name in names]).mean(0) for part in (0, 1)
        )
        for scale in _LENGTH_SCALES:
            joint = torch.exp(-distance * (features.length**0.5 / scale))
            for share, noise in itertools.product(_MAIN_SHARES, _NOISES):
                kernels.append(Kernel(names, scale, share, noise))
                matrices.append(share * main + (1 - share) * joint + noise * eye)
    return kernels[int(_log_evidence(torch.stack(matrices), y_N).argmax())]


def _log_evidence(matrices_KNN: Tensor, y_N: Tensor) -> Tensor:
    """Up to a constant, with the best scale of the signal; -inf where a matrix is singular."""
    factors_KNN, failed_K = torch.linalg.cholesky_ex(matrices_KNN)
    y_KN1 = y_N[None, :, None].expand(len(factors_KNN), -1, 1)
    solved_KN1 = torch.linalg.solve_triangular(factors_KNN, y_KN1, upper=False)
    quadratic_K = solved_KN1.square().sum(dim=(1, 2))
    log_det_K = factors_KNN.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    evidence_K = -0.5 * len(y_N) * quadratic_K.clamp(min=1e-12).log() - log_det_K
    usable: Tensor = evidence_K.masked_fill(failed_K > 0, -torch.inf).nan_to_num(-torch.inf)
    return usable


class GaussianProcess:
    """Zero mean; targets should be about standard normal."""

    def __init__(self, features: Features, y_N: Tensor, kernel: Kernel) -> None:
        self._features, self.kernel = features, kernel
        matrix_NN = kernel(features, features)
        matrix_NN.diagonal().add_(kernel.noise + _JITTER)
        self._factor_NN = torch.linalg.cholesky(matrix_NN)
        self._solved_N1 = torch.linalg.solve_triangular(self._factor_NN, y_N[:, None], upper=False)
        # Equal targets say nothing of the signal; any scale lets the uncertain win.
        self._scale = max(float(self._solved_N1.square().mean()), 1e-9)

    def predict(self, features: Features) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of the noise-free value, (M,) each."""
        kernel_NM = self.kernel(self._features, features)
        solved_NM = torch.linalg.solve_triangular(self._factor_NN, kernel_NM, upper=False)
        mean_M = (solved_NM.T @ self._solved_N1)[:, 0]
        variance_M = 1 - solved_NM.square().sum(dim=0)
        return mean_M, (variance_M.clamp(min=1e-9) * self._scale).sqrt()

    def expected_improvement(self, features: Features, best: float) -> Tensor:
        """E[max(0, f - best)] of each candidate, (M,)."""
        mean_M, std_M = self.predict(features)
        gain_M = (mean_M - best) / std_M
        density_M = torch.exp(-0.5 * gain_M**2) / math.sqrt(2 * math.pi)
        expected_M: Tensor = std_M * (gain_M * torch.special.ndtr(gain_M) + density_M)
        return expected_M


def _squared_distances(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    squared_NM = a_ND.square().sum(1)[:, None] + b_MD.square().sum(1) - 2 * a_ND @ b_MD.T
    return squared_NM.clamp(min=0)
