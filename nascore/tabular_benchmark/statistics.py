"""Statistics of a replay: spread over seeds, and paired tests with correction.

Test. Two methods are compared seed by seed. If they were equal, each difference could have either
sign, so the mean difference is compared with those of random signs (a two-sided paired permutation
test; exact for few seeds). It tests the reported mean and assumes nothing about its distribution,
which has a ceiling, the best architecture of the table (Good, Permutation, Parametric and Bootstrap
Tests, 3rd ed., chapter 3).

Correction. Holm's step-down procedure over all tests of one report: `p_corrected` can be compared
with any level, and the probability of one or more false claims stays below it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nascore.evaluation.verdict import OUTCOMES
from nascore.tabular_benchmark.replay import Outcome

BASELINES = ("random", "regularized-evolution", "local-search", "tpe")
CURVE_AT = (25, 50, 100, 200)
"""Queries at which the curve is reported, in addition to its end."""
TEST = "paired permutation test of the mean difference, two-sided"
_NUM_RESAMPLES = 19_999  # smallest p 1e-4: below 0.01 even when corrected for twelve tests
_CONFIDENCE = 0.95

_Floats = NDArray[np.float64]


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return the figures of one method in the table's unit; None where one seed gives none."""
    curves = outcome.curves
    final = curves[:, -1]
    num_queries = curves.shape[1]
    points = sorted({point for point in CURVE_AT if point < num_queries} | {num_queries})
    proposals = sum(replay.num_proposals for replay in outcome.replays)
    verdicts = [replay.verdict for replay in outcome.replays if replay.verdict is not None]
    shares = {name: verdicts.count(name) / len(verdicts) for name in OUTCOMES if verdicts}
    return {
        "method": outcome.entry.label,
        "mean": float(final.mean()),
        "std": float(final.std(ddof=1)) if len(final) > 1 else None,
        "median": float(np.median(final)),
        "ci95": interval(final),
        "curve": {str(point): float(curves[:, point - 1].mean()) for point in points},
        "seconds_per_suggestion": sum(r.seconds for r in outcome.replays) / proposals,
        "pretrain_seconds": outcome.prepare_s,
        "queries": float(np.mean([replay.num_queries for replay in outcome.replays])),
        "proposals": proposals / len(outcome.replays),
        "options": outcome.entry.options.model_dump(mode="json"),
        **({"verdicts": shares} if shares else {}),
        "values": [float(value) for value in final],
    }


def interval(values: _Floats) -> list[float] | None:
    """Return the 95 % interval of the mean by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))
    return [float(values.mean()) - half, float(values.mean()) + half]


def paired_tests(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Test each entry against each baseline among the others, corrected together.

    Two baselines are listed from either side, but count as one test.
    """
    tests: list[dict[str, Any]] = []
    pairs: dict[frozenset[str], float] = {}
    for outcome in outcomes:
        for baseline in outcomes:
            if baseline is outcome or baseline.entry.label not in BASELINES:
                continue
            differences = outcome.curves[:, -1] - baseline.curves[:, -1]
            pair = frozenset((outcome.entry.label, baseline.entry.label))
            if pair not in pairs:
                pairs[pair] = permutation_p(differences)
            tests.append(
                {
                    "method": outcome.entry.label,
                    "against": baseline.entry.label,
                    "difference": float(differences.mean()),
                    "ci95": interval(differences),
                    "p": pairs[pair],
                    "test": TEST,
                }
            )
    corrected = dict(zip(pairs, holm(list(pairs.values())), strict=True))
    return [
        test | {"p_corrected": corrected[frozenset((test["method"], test["against"]))]}
        for test in tests
    ]


def permutation_p(differences: _Floats) -> float:
    """Return the two-sided p-value of the mean difference under random signs; never 0."""
    if len(differences) < 2 or not np.any(differences):
        return 1.0  # scipy needs two pairs; a single one is never significant
    result = stats.permutation_test(
        (differences,),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_NUM_RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values by Holm's correction (Scandinavian Journal of Statistics 6, 1979)."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    ascending = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, index in enumerate(ascending):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
