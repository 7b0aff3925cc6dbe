"""The critic of NASES: what a search may expect of architectures that it has not trained.

Not in the paper, whose policy proposes what it samples. N children, M candidates, L tokens.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.genotype import Genotype
from nascore.methods.common import reinforce
from nascore.methods.common.reinforce import Floats
from nascore.methods.nases.gaussian_process import Features, GaussianProcesses, Kernels, fit_kernels
from nascore.methods.nases.history import History
from nascore.methods.nases.options import NasesOptions

_KERNEL_CHILDREN = 100  # that the kernel is chosen by


class Surrogate:
    """Gaussian processes on the ranks of the rewards, which read the tokens of architectures.

    It knows the children of the present climb alone: after the last one it was too sure of what it
    had not seen, or that climb would not have ended.
    """

    def __init__(
        self, history: History, options: NasesOptions, cardinalities: tuple[int, ...]
    ) -> None:
        self._history = history
        self._options = options
        self._cardinalities = cardinalities
        self._kernels: tuple[int, Kernels] | None = None

    def expected_improvement(self, pending: Sequence[Genotype]) -> Callable[[Tensor], Tensor]:
        """A function of token strings, (M, L) -> (M,): by how much each is expected to be better
        than the best of the climb.

        What is being trained counts as observed with the value that the critic expects, so that it
        is only less sure there (Desautels et al., Parallelizing Exploration-Exploitation Tradeoffs
        with Gaussian Process Bandits, ICML 2012).
        """
        start = self._history.climb
        kept = start + _best_and_latest(self._history.rewards[start:], self._options.critic_memory)
        target_N = _targets(self._history.rewards[kept])
        seen_NL = self._history.tokens(kept)
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
        """Fitted anew whenever the children have grown by a tenth; depends on their number alone,
        so that a rebuilt proposer has the same."""
        count = _last_milestone(len(self._history))
        if self._kernels is None or self._kernels[0] != count:
            rewards = self._history.rewards[:count]
            kept = _best_and_latest(rewards, _KERNEL_CHILDREN)
            self._kernels = (
                count,
                fit_kernels(
                    self._features(self._history.tokens(kept)),
                    _targets(rewards[kept]),
                    self._options.critic_metrics,
                    relevance=self._options.critic_relevance,
                ),
            )
        return self._kernels[1]

    def _features(self, tokens_NL: Tensor) -> Features:
        return Features(tokens_NL, self._cardinalities)


def _best_and_latest(rewards: Floats, limit: int) -> NDArray[np.int64]:
    """Sorted indices of at most `limit` children: half the best, half the latest."""
    count = len(rewards)
    if count <= limit:
        return np.arange(count)
    best = np.argsort(-rewards, kind="stable")[: limit // 2]
    return np.union1d(best, np.arange(count - (limit - limit // 2), count))


def _last_milestone(count: int) -> int:
    """The largest number up to `count` of a sequence that grows by a tenth."""
    milestone = 1
    while (following := max(milestone + 1, milestone * 11 // 10)) <= count:
        milestone = following
    return milestone


def _targets(rewards: Floats) -> Tensor:
    return torch.from_numpy(reinforce.rank_to_normal(rewards))
