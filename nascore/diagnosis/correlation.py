"""Rank correlations, with intervals over architectures.

Pairs of architectures are no independent observations: 200 architectures make 19,900 pairs, and a
bootstrap over pairs would give an interval that is far too narrow. Here architectures are drawn
anew, with all their pairs. N architectures, P pairs in the order of `scipy.spatial.distance.pdist`,
B bootstraps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import squareform

Floats = NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
_NUM_BOOTSTRAPS = 200
_NUM_PERMUTATIONS = 999
_NUM_RESAMPLES = 2000  # of the architectures of a plain rank correlation, which is cheap


@dataclass(frozen=True, slots=True)
class Correlation:
    """Of two distances over all pairs of architectures.

    Attributes:
        spearman: ties share their mean rank.
        interval: 95 % of it, percentile bootstrap over architectures.
        kendall: tau-b, which takes ties out.
        p_value: one-sided Mantel test: how often the architectures of one distance, in random
            order, give at least this Spearman correlation. Never 0.
    """

    spearman: float
    interval: Interval
    kendall: float
    p_value: float


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Of two values of the same architectures; both None where one is the same for all.

    Attributes:
        num: architectures.
        interval: 95 % of `spearman`, percentile bootstrap over architectures.
    """

    num: int
    spearman: float | None
    interval: Interval | None
    kendall: float | None


def spearman(x_P: Floats, y_P: Floats) -> float | None:
    """None where one of the two is the same for all pairs."""
    if np.ptp(x_P) == 0 or np.ptp(y_P) == 0:
        return None
    return _correlated(stats.rankdata(x_P), stats.rankdata(y_P), np.ones(len(x_P)))


def correlate(
    xs: Mapping[str, Floats],
    ys: Mapping[str, Floats],
    rng: np.random.Generator,
    *,
    num_bootstraps: int = _NUM_BOOTSTRAPS,
    num_permutations: int = _NUM_PERMUTATIONS,
) -> dict[str, dict[str, Correlation | None]]:
    """Every distance of `xs` with every one of `ys`, by their names.

    One bootstrap and one set of permutations serve all of them. None where a distance is the same
    for all pairs: nothing can be correlated with it then.
    """
    varying = {name: d for name, d in ys.items() if np.ptp(d) > 0}
    result: dict[str, dict[str, Correlation | None]] = {}
    weights = _bootstrap_weights(_num_points(xs, ys), rng, num_bootstraps)
    for x_name, x_P in xs.items():
        result[x_name] = dict.fromkeys(ys)
        if np.ptp(x_P) == 0 or not varying:
            continue
        p_values = _mantel(x_P, list(varying.values()), rng, num_permutations)
        x_ranks = _Ranks(x_P)
        for (y_name, y_P), p_value in zip(varying.items(), p_values, strict=True):
            y_ranks = _Ranks(y_P)
            boots = [_correlated(x_ranks(w_P), y_ranks(w_P), w_P) for w_P in weights]
            result[x_name][y_name] = Correlation(
                spearman=_correlated(x_ranks.plain, y_ranks.plain, np.ones(len(x_P))),
                interval=_interval(boots),
                kendall=float(stats.kendalltau(x_P, y_P).statistic),
                p_value=p_value,
            )
    return result


def rank_correlation(
    x_N: Sequence[float], y_N: Sequence[float], rng: np.random.Generator
) -> RankCorrelation:
    """Of accuracies with shared weights and of those of networks trained alone, for example."""
    x, y = np.asarray(x_N, dtype=np.float64), np.asarray(y_N, dtype=np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(len(x), None, None, None)
    rows_BN = rng.integers(len(x), size=(_NUM_RESAMPLES, len(x)))
    boots_B = _correlated_rows(
        stats.rankdata(x[rows_BN], axis=1), stats.rankdata(y[rows_BN], axis=1)
    )
    return RankCorrelation(
        num=len(x),
        spearman=spearman(x, y),
        interval=_interval(boots_B),
        kendall=float(stats.kendalltau(x, y).statistic),
    )


def mean_interval(values: Floats, rng: np.random.Generator) -> Interval:
    """95 % of the mean of independent values, percentile bootstrap."""
    rows_BN = rng.integers(len(values), size=(_NUM_RESAMPLES, len(values)))
    return _interval(values[rows_BN].mean(axis=1))


def _interval(boots: Sequence[float] | Floats) -> Interval:
    low, high = np.quantile(boots, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


# --- the bootstrap over architectures -------------------------------------------------------


def _num_points(xs: Mapping[str, Floats], ys: Mapping[str, Floats]) -> int:
    lengths = {len(distances) for distances in (*xs.values(), *ys.values())}
    if len(lengths) != 1:
        raise ValueError(f"distances must be of the same pairs, got {sorted(lengths)} pairs")
    return (1 + math.isqrt(1 + 8 * lengths.pop())) // 2


def _bootstrap_weights(num: int, rng: np.random.Generator, num_bootstraps: int) -> list[Floats]:
    """How often each pair comes when `num` architectures are drawn with replacement.

    A pair of an architecture with its own copy is left out: its distance is 0 in any measure, and
    would raise every correlation.
    """
    rows, columns = np.triu_indices(num, k=1)
    counts_BN = rng.multinomial(num, np.full(num, 1 / num), size=num_bootstraps)
    return [counts_N[rows] * counts_N[columns].astype(np.float64) for counts_N in counts_BN]


class _Ranks:
    """Mean ranks of values of which each comes a number of times; sorted once for all weights."""

    def __init__(self, values_P: Floats) -> None:
        _, self._group_P = np.unique(values_P, return_inverse=True)
        self.plain: Floats = stats.rankdata(values_P)

    def __call__(self, weights_P: Floats) -> Floats:
        size_G = np.bincount(self._group_P, weights_P)
        rank_G = np.cumsum(size_G) - (size_G - 1) / 2
        ranks_P: Floats = rank_G[self._group_P]
        return ranks_P


def _correlated(x_P: Floats, y_P: Floats, weights_P: Floats) -> float:
    """Pearson's correlation of weighted pairs; 0 where one does not vary in this sample."""
    total = weights_P.sum()
    x_P = x_P - (weights_P @ x_P) / total
    y_P = y_P - (weights_P @ y_P) / total
    spread = np.sqrt((weights_P @ (x_P * x_P)) * (weights_P @ (y_P * y_P)))
    return float(weights_P @ (x_P * y_P) / spread) if spread > 0 else 0.0


def _correlated_rows(x_BN: Floats, y_BN: Floats) -> Floats:
    """Pearson's correlation of each row; rows where one of the two does not vary are left out."""
    x_BN = x_BN - x_BN.mean(axis=1, keepdims=True)
    y_BN = y_BN - y_BN.mean(axis=1, keepdims=True)
    spread_B = np.sqrt((x_BN**2).sum(axis=1) * (y_BN**2).sum(axis=1))
    varying = spread_B > 0
    correlations: Floats = (x_BN * y_BN).sum(axis=1)[varying] / spread_B[varying]
    return correlations


# --- the Mantel test ------------------------------------------------------------------------


def _mantel(
    x_P: Floats, ys: Sequence[Floats], rng: np.random.Generator, num_permutations: int
) -> list[float]:
    """One-sided p-values of the Spearman correlations of one distance with several.

    Whoever permutes architectures permutes ranks: nothing has to be ranked again.
    """
    x_NN = squareform(_standardised(x_P))
    y_PK = np.stack([_standardised(y_P) for y_P in ys], axis=1)
    rows, columns = np.triu_indices(len(x_NN), k=1)
    observed_K = _standardised(x_P) @ y_PK
    count_K = np.ones(len(ys))
    for _ in range(num_permutations):
        order = rng.permutation(len(x_NN))
        # Sums in another order differ in the last digits; equal ones must count as such.
        count_K += x_NN[order[rows], order[columns]] @ y_PK >= observed_K - 1e-9 * len(x_P)
    return [float(count / (num_permutations + 1)) for count in count_K]


def _standardised(values_P: Floats) -> Floats:
    standardised: Floats = stats.zscore(stats.rankdata(values_P))
    return standardised
