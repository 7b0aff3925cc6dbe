"""Rank correlations, with intervals over architectures.

Pairs of architectures are not independent observations: 200 architectures make 19,900 pairs, and a
bootstrap over pairs would give an interval that is far too narrow. Here architectures are
resampled, with all their pairs.

N architectures, P pairs in the order of `scipy.spatial.distance.pdist`, B bootstrap samples.
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
    """Correlation of two distances over all pairs of architectures.

    Attributes:
        spearman: ties share their mean rank.
        interval: 95 % interval of `spearman`, percentile bootstrap over architectures.
        kendall: tau-b, which corrects for ties.
        p_value: one-sided Mantel test: the fraction of random orders of the architectures of one
            distance that give at least this Spearman correlation. Never 0.
    """

    spearman: float
    interval: Interval
    kendall: float
    p_value: float


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Correlation of two values of the same architectures; None where a value is constant.

    Attributes:
        num: number of architectures.
        interval: 95 % interval of `spearman`, percentile bootstrap over architectures.
    """

    num: int
    spearman: float | None
    interval: Interval | None
    kendall: float | None


def spearman(x_P: Floats, y_P: Floats) -> float | None:
    """Return Spearman's correlation; None where one of the two is constant."""
    if not (np.ptp(x_P) > 0 and np.ptp(y_P) > 0):
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
    """Correlate every distance of `xs` with every one of `ys`.

    All use the same bootstrap samples.

    Args:
        xs, ys: distances (P,) by name.

    Returns:
        Correlations by both names; None where a distance is the same for all pairs.
    """
    found: dict[str, dict[str, Correlation | None]] = {name: dict.fromkeys(ys) for name in xs}
    weights = _bootstrap_weights(_num_points(xs, ys), rng, num_bootstraps)
    varying_xs, varying_ys = (
        {name: _Ranks(d_P) for name, d_P in some.items() if np.ptp(d_P) > 0} for some in (xs, ys)
    )
    boots = _bootstrapped(varying_xs, varying_ys, weights)
    for x_name, x_ranks in varying_xs.items():
        p_values = _mantel(x_ranks.plain, varying_ys, rng, num_permutations)
        for y_name, y_ranks in varying_ys.items():
            found[x_name][y_name] = Correlation(
                spearman=_correlated(x_ranks.plain, y_ranks.plain, np.ones_like(x_ranks.plain)),
                interval=_interval(boots[x_name, y_name]),
                kendall=float(stats.kendalltau(xs[x_name], ys[y_name]).statistic),
                p_value=p_values[y_name],
            )
    return found


def rank_correlation(
    x_N: Sequence[float], y_N: Sequence[float], rng: np.random.Generator
) -> RankCorrelation:
    """Correlate two values of N architectures, such as accuracies with shared weights and alone."""
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
    """Return the 95 % interval of the mean of independent values, percentile bootstrap."""
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
    """Return the count of each pair when `num` architectures are drawn with replacement.

    A pair of an architecture with its own copy is excluded: its distance is 0 in any measure, which
    would raise every correlation.
    """
    rows, columns = np.triu_indices(num, k=1)
    counts_BN = rng.multinomial(num, np.full(num, 1 / num), size=num_bootstraps)
    return [counts_N[rows] * counts_N[columns].astype(np.float64) for counts_N in counts_BN]


class _Ranks:
    """Mean ranks of values with multiplicities; sorted once for all multiplicities."""

    def __init__(self, values_P: Floats) -> None:
        _, self._group_P = np.unique(values_P, return_inverse=True)
        self.plain: Floats = stats.rankdata(values_P)

    def __call__(self, weights_P: Floats) -> Floats:
        size_G = np.bincount(self._group_P, weights_P)
        rank_G = np.cumsum(size_G) - (size_G - 1) / 2
        ranks_P: Floats = rank_G[self._group_P]
        return ranks_P


def _bootstrapped(
    xs: Mapping[str, _Ranks], ys: Mapping[str, _Ranks], weights: Sequence[Floats]
) -> dict[tuple[str, str], list[float]]:
    """Return the Spearman correlation of each pair of distances in each bootstrap sample."""
    found: dict[tuple[str, str], list[float]] = {(x, y): [] for x in xs for y in ys}
    for weights_P in weights:
        x_ranks = {name: ranks(weights_P) for name, ranks in xs.items()}
        y_ranks = {name: ranks(weights_P) for name, ranks in ys.items()}
        for (x, y), values in found.items():
            values.append(_correlated(x_ranks[x], y_ranks[y], weights_P))
    return found


def _correlated(x_P: Floats, y_P: Floats, weights_P: Floats) -> float:
    """Return Pearson's correlation of weighted pairs; 0 where one is constant in this sample."""
    x_P = x_P - np.average(x_P, weights=weights_P)
    y_P = y_P - np.average(y_P, weights=weights_P)
    # Not by BLAS: on vectors of this size its threads cost more than they save.
    xx, yy, xy = (
        float(np.einsum("p,p,p->", weights_P, *pair))
        for pair in ((x_P, x_P), (y_P, y_P), (x_P, y_P))
    )
    return xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else 0.0


def _correlated_rows(x_BN: Floats, y_BN: Floats) -> Floats:
    """Return Pearson's correlation of each row, without rows in which a value is constant."""
    x_BN = x_BN - x_BN.mean(axis=1, keepdims=True)
    y_BN = y_BN - y_BN.mean(axis=1, keepdims=True)
    spread_B = np.sqrt((x_BN**2).sum(axis=1) * (y_BN**2).sum(axis=1))
    varying = spread_B > 0
    correlations: Floats = (x_BN * y_BN).sum(axis=1)[varying] / spread_B[varying]
    return correlations


# --- the Mantel test ------------------------------------------------------------------------


def _mantel(
    x_P: Floats, ys: Mapping[str, _Ranks], rng: np.random.Generator, num_permutations: int
) -> dict[str, float]:
    """Return one-sided p-values of the Spearman correlations of one distance's ranks with others.

    A permutation of architectures permutes ranks, so nothing has to be ranked again.
    """
    if not ys:
        return {}
    x_NN = squareform(stats.zscore(x_P))
    y_KP = np.stack([stats.zscore(ranks.plain) for ranks in ys.values()])
    rows, columns = np.triu_indices(len(x_NN), k=1)

    def correlated(order: NDArray[np.int64]) -> Floats:
        sums_K: Floats = np.einsum("kp,p->k", y_KP, x_NN[order[rows], order[columns]])
        return sums_K

    # Sums in another order differ in the last digits; equal ones must count as such.
    enough_K = correlated(np.arange(len(x_NN))) - 1e-9 * len(x_P)
    count_K = np.ones(len(ys))
    for _ in range(num_permutations):
        count_K += correlated(rng.permutation(len(x_NN))) >= enough_K
    return dict(zip(ys, (count_K / (num_permutations + 1)).tolist(), strict=True))
