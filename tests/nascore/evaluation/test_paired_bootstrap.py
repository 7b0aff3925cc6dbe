import numpy as np
import pytest

from nascore.evaluation.paired_bootstrap import compare_paired


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_figures_by_hand() -> None:
    new = np.array([True, True, True, False])
    old = np.array([True, False, False, True])
    paired = compare_paired(new, old, rng=rng())
    assert (paired.new_accuracy, paired.old_accuracy, paired.difference) == (0.75, 0.5, 0.25)
    assert paired.lower < 0 < paired.upper
    assert paired.num_images == 4


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    generator = rng()
    new, old = generator.random(500) < 0.8, generator.random(500) < 0.7
    picks = generator.integers(500, size=(4000, 500))
    plain = np.percentile((new[picks].astype(float) - old[picks]).mean(1), [2.5, 97.5])
    paired = compare_paired(new, old, rng=rng())
    assert [paired.lower, paired.upper] == pytest.approx(plain.tolist(), abs=0.004)


def test_equal_answers_have_no_interval_and_a_better_network_lies_above_zero() -> None:
    right = rng().random(1000) < 0.9
    same = compare_paired(right, right, rng=rng())
    assert (same.difference, same.lower, same.upper) == (0, 0, 0)
    worse = right.copy()
    worse[np.flatnonzero(right)[:30]] = False
    assert compare_paired(right, worse, rng=rng()).lower > 0.015


def test_a_true_difference_of_zero_is_seldom_above_zero() -> None:
    """One-sided, 2.5 %: 400 comparisons of equal networks; measured: 8."""
    generator = rng()
    above = 0
    for _ in range(400):
        new, old = generator.random(300) < 0.8, generator.random(300) < 0.8
        above += compare_paired(new, old, rng=generator).lower > 0
    assert above <= 20


def test_other_images_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        compare_paired(np.ones(3, bool), np.ones(4, bool), rng=rng())
