"""A small Gaussian process: the critic of searches that live in a continuous embedding.

N observations, M candidates, E dimensions. Exact inference: the caller keeps N to a few hundred.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LENGTH_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # in units of the median distance between observations
_NOISES = (1e-2, 1e-1, 5e-1)  # variance of the noise, the signal's being 1


@dataclass(frozen=True)
class GaussianProcess:
    """Zero mean, Matern-5/2 kernel of one length scale; targets should be about standard normal."""

    z_NE: Floats
    length_scale: float
    cholesky_NN: Floats
    weights_N: Floats
    best: float

    @classmethod
    def fit(cls, z_NE: Floats, y_N: Floats) -> "GaussianProcess":
        """Chooses length scale and noise by marginal likelihood from a fixed grid."""
        distance_NN = _distances(z_NE, z_NE)
        off = distance_NN[np.triu_indices(len(z_NE), 1)]
        unit = max(float(np.median(off)), 1e-6) if len(off) else 1.0
        best: tuple[float, float, Any, Any] | None = None
        for scale in _LENGTH_SCALES:
            kernel_NN = _matern(distance_NN / (scale * unit))
            for noise in _NOISES:
                cholesky = np.asarray(np.linalg.cholesky(kernel_NN + noise * np.eye(len(y_N))))
                weights = np.asarray(np.linalg.solve(cholesky.T, np.linalg.solve(cholesky, y_N)))
                likelihood = -0.5 * float(y_N @ weights) - float(np.log(np.diag(cholesky)).sum())
                if best is None or likelihood > best[0]:
                    best = (likelihood, scale * unit, cholesky, weights)
        assert best is not None
        _, length_scale, cholesky, weights = best
        kernel_NN = _matern(distance_NN / length_scale)
        return cls(z_NE, length_scale, cholesky, weights, float((kernel_NN @ weights).max()))

    def predict(self, z_ME: Floats) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation of the noise-free value, (M,) each."""
        kernel_MN = _matern(_distances(z_ME, self.z_NE) / self.length_scale)
        mean_M = kernel_MN @ self.weights_N
        solved_NM = np.linalg.solve(self.cholesky_NN, kernel_MN.T)
        variance_M = np.maximum(1 - (solved_NM**2).sum(axis=0), 1e-12)
        return mean_M, np.sqrt(variance_M)

    def best_expected_improvement(self, z_ME: Floats) -> int:
        """Index of the candidate with the largest expected improvement over the best mean."""
        mean_M, std_M = self.predict(z_ME)
        gain_M = (mean_M - self.best) / std_M
        normal = torch.distributions.Normal(0.0, 1.0)
        gain = torch.from_numpy(gain_M)
        improvement = torch.from_numpy(std_M) * (
            gain * normal.cdf(gain) + normal.log_prob(gain).exp()
        )
        return int(improvement.argmax())


def _matern(scaled: Floats) -> Floats:
    root = np.sqrt(5) * scaled
    return np.asarray((1 + root + root**2 / 3) * np.exp(-root))


def _distances(a_NE: Floats, b_ME: Floats) -> Floats:
    squared = (a_NE**2).sum(1)[:, None] + (b_ME**2).sum(1)[None, :] - 2 * a_NE @ b_ME.T
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))
