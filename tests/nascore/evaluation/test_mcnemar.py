import numpy as np
import pytest
from scipy.stats import binom

from nascore.evaluation.mcnemar import mcnemar


def pairs(both: int, only_one: int, only_other: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    one = [True] * (both + only_one) + [False] * (only_other + neither)
    other = [True] * both + [False] * only_one + [True] * only_other + [False] * neither
    return np.array(one), np.array(other)


@pytest.mark.parametrize(("one", "other"), [(0, 5), (3, 9), (10, 10), (40, 21), (1, 0)])
def test_it_is_the_exact_binomial_test_of_the_pairs_that_differ(one: int, other: int) -> None:
    """The two-sided p-value of a symmetric distribution is twice the smaller tail."""
    expected = min(1.0, 2 * binom.cdf(min(one, other), one + other, 0.5))
    assert mcnemar(*pairs(100, one, other, 7)) == pytest.approx(expected)
    assert mcnemar(*pairs(100, one, other, 7)) == mcnemar(*pairs(3, other, one, 900))


def test_equal_answers_do_not_differ() -> None:
    assert mcnemar(*pairs(10, 0, 0, 3)) == 1.0


def test_a_single_answer_is_not_compared_with_many() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        mcnemar(np.ones(3, bool), np.ones(1, bool))
