"""McNemar's test: do two classifiers differ in accuracy on the same images?"""

from typing import Any

from numpy.typing import NDArray


def mcnemar(one_correct_N: NDArray[Any], other_correct_N: NDArray[Any]) -> float:
    """Return the two-sided exact p-value of McNemar's test (Psychometrika 12, 1947).

    Images that both classify correctly, or neither, say nothing about the difference. Of the others
    each classifier has half in the mean if both are equally accurate.

    Args:
        one_correct_N: whether each image is classified correctly, shape (N,).
        other_correct_N: the same of the other classifier, for the same images.

    Raises:
        ValueError: the shapes differ.
    """
    if one_correct_N.shape != other_correct_N.shape:
        raise ValueError(f"need equal shapes, got {one_correct_N.shape}, {other_correct_N.shape}")
    from scipy.stats import binomtest  # takes a second to load

    only_one = int((one_correct_N & ~other_correct_N).sum())
    only_other = int((~one_correct_N & other_correct_N).sum())
    if only_one + only_other == 0:
        return 1.0
    return float(binomtest(only_one, only_one + only_other).pvalue)
