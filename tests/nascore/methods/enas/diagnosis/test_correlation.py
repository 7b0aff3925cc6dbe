"""Rank correlations of distances: exact ranks, and intervals over architectures."""

import time

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from nascore.methods.enas.diagnosis.correlation import (
    _bootstrap_weights,
    _correlated,
    _Ranks,
    correlate,
    mean_interval,
    rank_correlation,
    spearman,
)


def points(num: int, dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, dims))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_spearman_is_that_of_scipy_with_ties() -> None:
    x, y = pdist(points(30, 2)), np.round(pdist(points(30, 2, seed=1)))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman(x, np.ones_like(x)) is None


def test_weighted_ranks_are_those_of_repeated_values() -> None:
    values = np.array([3.0, 1.0, 3.0, 2.0, 5.0])
    counts = np.array([2, 1, 0, 3, 1])
    repeated = stats.rankdata(np.repeat(values, counts))
    first = np.cumsum(counts) - counts
    ranks = _Ranks(values)(counts.astype(float))
    for i, count in enumerate(counts):
        if count:
            assert ranks[i] == repeated[first[i]]


def test_a_bootstrap_draws_architectures_and_drops_their_own_copies() -> None:
    """Against a bootstrap that is written out: rows are drawn, pairs of equal rows left out."""
    x, y = points(12, 2), points(12, 3, seed=1)
    (weights,) = _bootstrap_weights(12, rng(3), 1)
    counts = rng(3).multinomial(12, np.full(12, 1 / 12), size=1)[0]
    drawn = np.repeat(np.arange(12), counts)
    pairs = [(a, b) for i, a in enumerate(drawn) for b in drawn[i + 1 :] if a != b]
    dx, dy = squareform(pdist(x)), squareform(pdist(y))
    expected = stats.spearmanr([dx[p] for p in pairs], [dy[p] for p in pairs]).statistic
    x_P, y_P = pdist(x), pdist(y)
    assert weights.sum() == len(pairs)
    found = _correlated(_Ranks(x_P)(weights), _Ranks(y_P)(weights), weights)
    assert found == pytest.approx(expected)


def test_what_is_the_same_correlates_and_what_is_independent_does_not() -> None:
    near = points(60, 3)
    xs = {"near": pdist(near)}
    ys = {"same": pdist(near) ** 2, "other": pdist(points(60, 3, seed=1))}
    found = correlate(xs, ys, rng())["near"]
    same, other = found["same"], found["other"]
    assert same is not None
    assert other is not None
    assert same.spearman == pytest.approx(1)
    assert same.kendall == pytest.approx(1)
    assert same.p_value == pytest.approx(0.001)
    assert abs(other.spearman) < 0.15
    assert other.interval[0] < 0 < other.interval[1]
    assert other.p_value > 0.05


def test_an_interval_over_architectures_is_wider_than_one_over_pairs() -> None:
    near = points(40, 2)
    x, y = pdist(near), pdist(near + 0.7 * points(40, 2, seed=1))
    found = correlate({"x": x}, {"y": y}, rng())["x"]["y"]
    over_pairs = rank_correlation(x, y, rng())
    assert found is not None
    assert over_pairs.interval is not None
    assert found.spearman == over_pairs.spearman
    assert found.interval[0] < found.spearman < found.interval[1]
    assert np.ptp(found.interval) > 2 * np.ptp(over_pairs.interval)


def test_intervals_hold_what_they_promise() -> None:
    """Rank correlation of 40 pairs of normal values: about 95 of 100 intervals hold the truth."""
    truth = 6 / np.pi * np.arcsin(0.6 / 2)
    held = 0
    for seed in range(100):
        x = points(40, 2, seed)
        found = rank_correlation(x[:, 0], 0.6 * x[:, 0] + 0.8 * x[:, 1], rng(seed))
        assert found.interval is not None
        held += found.interval[0] <= truth <= found.interval[1]
    assert 88 <= held <= 99


def test_p_values_of_unrelated_distances_are_uniform() -> None:
    found = []
    for seed in range(60):
        x, y = pdist(points(15, 2, seed)), pdist(points(15, 2, 1000 + seed))
        one = correlate({"x": x}, {"y": y}, rng(seed), num_bootstraps=2, num_permutations=99)
        assert one["x"]["y"] is not None
        found.append(one["x"]["y"].p_value)
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_what_does_not_vary_cannot_be_correlated() -> None:
    x = pdist(points(10, 2))
    found = correlate({"x": x, "flat": np.ones(45)}, {"x": x, "flat": np.ones(45)}, rng())
    assert found["x"]["flat"] is None
    assert found["flat"] == {"x": None, "flat": None}
    assert found["x"]["x"] is not None
    assert rank_correlation([1, 1, 1], [1, 2, 3], rng()).spearman is None
    assert rank_correlation([1], [2], rng()).spearman is None


def test_distances_of_other_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="same pairs"):
        correlate({"x": pdist(points(10, 2))}, {"y": pdist(points(11, 2))}, rng())


def test_the_mean_of_a_sample_has_its_interval() -> None:
    low, high = mean_interval(points(400, 1)[:, 0] + 1, rng())
    assert low < 1 < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)


def test_two_hundred_architectures_take_seconds() -> None:
    xs = {name: pdist(points(200, 8, seed)) for seed, name in enumerate("ab")}
    ys = {name: np.round(pdist(points(200, 4, 9 + seed))) for seed, name in enumerate("cdefgh")}
    start = time.process_time()
    correlate(xs, ys, rng())
    assert time.process_time() - start < 10
