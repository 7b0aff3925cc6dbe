"""The surrogate of NASES: expected improvement of architectures that were not trained.

Not in the paper, whose policy proposes its own samples. Shapes: N children, M candidates, P pending
children, L tokens.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.genotype import Genotype
from nascore.methods.common import reinforce
from nascore.methods.common.reinforce import Floats
from nascore.methods.nases.gaussian_process import Features, GaussianProcesses, Kernels, fit_kernels
from nascore.methods.nases.observations import Observations

_KERNEL_CHILDREN = 100  # to which the kernels are fitted: fitting takes cubic time


class Surrogate:
    """Gaussian processes on the ranks of the rewards, over the tokens of architectures.

    It is fitted to the children of the current climb alone: the surrogate of the last climb was too
    certain of regions without observations, or that climb would not have ended.

    Attributes:
        memory: children to which the processes are fitted: the best and the latest. Inference takes
            cubic time.
        relevance: whether each token has its own weight in the kernel.
    """

    memory: ClassVar[int] = 200
    relevance: ClassVar[bool] = True

    def __init__(self, observations: Observations, cardinalities: tuple[int, ...]) -> None:
        self._observations = observations
        self._cardinalities = cardinalities
        self._kernels: tuple[int, Kernels] | None = None

    def expected_improvement(self, pending: Sequence[Genotype]) -> Callable[[Tensor], Tensor]:
        """Return a function of token strings, (M, L) -> (M,), relative to the best of the climb.

        Pending children count as observed at their posterior mean, which only lowers the variance
        near them (Desautels et al., Parallelizing Exploration-Exploitation Tradeoffs with Gaussian
        Process Bandits, ICML 2012).

        Args:
            pending: architectures that other workers are training.
        """
        start, rewards = self._observations.restart, self._observations.rewards
        kept = start + _best_and_latest(rewards[start:], self.memory)
        target_N = _targets(rewards[kept])
        seen_NL = self._observations.tokens(kept)
        processes = GaussianProcesses(self._features(seen_NL), target_N, self._fitted_kernels())
        if pending:
            pending_PL = torch.tensor([genotype.tokens for genotype in pending])
            expected_P = processes.mean(self._features(pending_PL))
            processes = GaussianProcesses(
                self._features(torch.cat([seen_NL, pending_PL])),
                torch.cat([target_N, expected_P]),
                processes.kernels,
            )
        return lambda tokens_ML: processes.expected_improvement(self._features(tokens_ML))

    def _fitted_kernels(self) -> Kernels:
        """Return kernels fitted when the number of children last grew by a tenth.

        They depend on the children up to that number alone, so a rebuilt proposer has the same.
        """
        count = _last_milestone(len(self._observations))
        if self._kernels is None or self._kernels[0] != count:
            rewards = self._observations.rewards[:count]
            kept = _best_and_latest(rewards, _KERNEL_CHILDREN)
            features = self._features(self._observations.tokens(kept))
            kernels = fit_kernels(features, _targets(rewards[kept]), relevance=self.relevance)
            self._kernels = count, kernels
        return self._kernels[1]

    def _features(self, tokens_NL: Tensor) -> Features:
        return Features(tokens_NL, self._cardinalities)


def _best_and_latest(rewards: Floats, limit: int) -> NDArray[np.int64]:
    """Return sorted indices of at most `limit` children: half the best, half the latest."""
    count = len(rewards)
    if count <= limit:
        return np.arange(count)
    best = np.argsort(-rewards, kind="stable")[: limit // 2]
    return np.union1d(best, np.arange(count - (limit - limit // 2), count))


def _last_milestone(count: int) -> int:
    """Return the largest number up to `count` of a sequence that grows by a tenth."""
    milestone = 1
    while (following := max(milestone + 1, milestone * 11 // 10)) <= count:
        milestone = following
    return milestone


def _targets(rewards: Floats) -> Tensor:
    return torch.from_numpy(reinforce.rank_to_normal(rewards))
