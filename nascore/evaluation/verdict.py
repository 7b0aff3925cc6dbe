"""The verdict: did a search find better architectures than random search at equal cost?

Statistic. The result of a search is what it has found at the end, so bad children cost nothing:
each arm is scored by the mean of its `k` best children, `k` a quarter of the smaller arm. The best
child alone would be closer to the use of a search, but it is one noisy number; the mean of all
children would penalise exploration. `k` is the same in both arms, so an arm that trained more
children at the same cost benefits from them.

Test. If the method *is* random search, the children of both arms are exchangeable, and a one-sided
permutation test on that statistic errs at its level for every distribution: skewed, with ties, with
few children (Good, Permutation, Parametric and Bootstrap Tests, 3rd ed., chapter 3). The p-value
counts the observed labelling, so it is never 0. "better" requires all of

1. p <= (1 - confidence) / 2, the evidence of a two-sided interval that leaves out zero;
2. a percentile bootstrap interval of the difference that lies above zero, which also refuses an arm
   that is only better *per child*, but not for its cost;
3. a best child that is strictly better than the control's best child.

The second and third can only lower the rate of false claims below that of the first.

The outcome is "not better" when no relevant gain is left in the interval (its upper end is at most
`margin`), or when the control's best child is at least as good and most of the interval lies below
zero. Everything else is "undecided": more children are needed.

Margin. A gain is relevant from a tenth of what random search itself has gained: its best child
minus its median child. That needs no unit and adapts to the data: 0.5 points are much where all
architectures are alike and little where they are not. A proven gain below the margin is still
"better", with its size in the statement.

Objective. Only the scores of whole children are compared and resampled, never images, so the test
holds for any score, also for those that are no mean over images (macro F1, AUROC).

Limit. This is one run of each arm. It shows whether *these* children are better than by chance;
whether a method is better in general takes several seeds and a paired test over them.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["better", "not better", "undecided"]
OUTCOMES: tuple[Outcome, ...] = ("better", "not better", "undecided")

MIN_CHILDREN = 5
"""Finished children that each arm needs for a test."""
TOP_FRACTION = 0.25
"""Fraction of the smaller arm that is compared."""
_MARGIN_FRACTION = 0.1
_STATISTIC = "difference of the means of the {k} best children of each arm"

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one comparison; differences are method minus control, in the input's unit.

    Attributes:
        difference: of the means of the `top_k` best children; None when an arm has no child.
        interval: percentile bootstrap interval of `difference` at `confidence`; None, as is
            `p_value`, when an arm has fewer than `MIN_CHILDREN` children.
        p_value: one-sided, of the permutation test.
        num_method, num_control: finished children that were compared.
        num_method_failed, num_control_failed: children that were left out.
        best_difference: of the single best children; None when an arm has no child.
        margin: smallest difference that counts as relevant.
        statistic: description of what was compared.
        figure: name of the score, such as `macro F1`.
        statement: the verdict as a plain sentence.
    """

    outcome: Outcome
    difference: float | None
    interval: tuple[float, float] | None
    confidence: float
    p_value: float | None
    num_method: int
    num_control: int
    num_method_failed: int
    num_control_failed: int
    best_difference: float | None
    margin: float | None
    top_k: int
    statistic: str
    statement: str
    figure: str = "accuracy"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON; the interval is a list of two."""
        values = asdict(self)
        values["interval"] = None if self.interval is None else list(self.interval)
        return values


def compare(
    method: Sequence[float | None],
    control: Sequence[float | None],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    margin: float | None = None,
    name: str = "the method",
    control_name: str = "random search",
    points: float = 100.0,
    num_resamples: int = 1999,
    top_fraction: float = TOP_FRACTION,
    figure: str = "accuracy",
) -> Verdict:
    """Compare the children of a method with those of random search at equal cost.

    Args:
        method: validation scores of the method's children; None stands for a failed child,
            which is left out and counted.
        control: scores of random search, likewise.
        confidence: level of the interval; "better" is wrong in at most (1 - confidence) / 2 of
            the runs in which the method is random search.
        margin: smallest relevant difference; by default a tenth of (best - median) of the control.
        name, control_name: names of the two in the statement.
        points: factor from a difference to percentage points in the statement: 100 for accuracies
            that are fractions, 1 for those in percent.
        num_resamples: bootstrap samples, and random labellings where there are more than that.
        top_fraction: fraction of the smaller arm that is compared; 1 where the children of an arm
            are those that it has selected.
        figure: name of the score, such as `macro F1`.

    Raises:
        ValueError: an accuracy is not finite, or an option is out of range.
    """
    if not 0 < confidence < 1 or num_resamples < 1 or not 0 < top_fraction <= 1:
        raise ValueError(
            "confidence and top_fraction must be between 0 and 1 and num_resamples at least 1, "
            f"got {confidence}, {top_fraction} and {num_resamples}"
        )
    values, others = _finished(method, "method"), _finished(control, "control")
    smaller = min(len(values), len(others))
    k = max(1, int(smaller * top_fraction))
    difference = best_difference = interval = p_value = None
    if smaller > 0:
        difference = _top_mean(values, k) - _top_mean(others, k)
        best_difference = float(values.max() - others.max())
        if margin is None:
            margin = _MARGIN_FRACTION * float(others.max() - np.median(others))
    if smaller >= MIN_CHILDREN:
        p_value = _permutation_p(values, others, k, rng, num_resamples)
        interval = _bootstrap_interval(values, others, k, rng, num_resamples, confidence)
    verdict = Verdict(
        outcome=_decide(interval, p_value, best_difference, margin, (1 - confidence) / 2),
        difference=difference,
        interval=interval,
        confidence=confidence,
        p_value=p_value,
        num_method=len(values),
        num_control=len(others),
        num_method_failed=len(method) - len(values),
        num_control_failed=len(control) - len(others),
        best_difference=best_difference,
        margin=margin,
        top_k=k,
        statistic=_STATISTIC.format(k=k) if k > 1 else "difference of the best children",
        statement="",
        figure=figure,
    )
    return replace(verdict, statement=_statement(verdict, name, control_name, points))


def _decide(
    interval: tuple[float, float] | None,
    p_value: float | None,
    best_difference: float | None,
    margin: float | None,
    level: float,
) -> Outcome:
    if interval is None or p_value is None or best_difference is None or margin is None:
        return "undecided"
    low, high = interval
    if p_value <= level and low > 0 and best_difference > 0:
        return "better"
    if high <= margin or (best_difference <= 0 and low + high < 0):
        return "not better"
    return "undecided"


# --- statistics -----------------------------------------------------------------------------


def _finished(accuracies: Sequence[float | None], arm: str) -> _Floats:
    values = np.array([value for value in accuracies if value is not None], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"accuracies must be finite, got {values.tolist()} for the {arm}")
    return values


def _top_mean(values: _Floats, k: int) -> float:
    return float(np.sort(values)[-k:].mean())


def _top_differences(method: _Floats, control: _Floats, *, k: int, axis: int) -> _Floats:
    """Return the differences of the means of the k largest values along an axis."""
    means = [
        np.partition(samples, -k, axis=axis).take(range(-k, 0), axis=axis).mean(axis=axis)
        for samples in (method, control)
    ]
    difference: _Floats = means[0] - means[1]
    return difference


def _permutation_p(
    values: _Floats, others: _Floats, k: int, rng: np.random.Generator, num_resamples: int
) -> float:
    """Return the p-value, from all labellings where there are no more than `num_resamples`."""
    from scipy import stats  # takes a second to load, which a search need not wait for

    # Equal sums of values that were added in another order are equal. scipy allows for rounding
    # relative to the observed difference, so for none at a difference of zero: without this,
    # ties would favour the method.
    pooled = np.concatenate([values, others])
    largest = float(np.abs(pooled).max())
    unit = 1e-9 * (float(np.ptp(pooled)) + np.finfo(float).eps * largest) or 1.0

    def statistic(method: _Floats, control: _Floats, axis: int) -> _Floats:
        return np.rint(_top_differences(method, control, k=k, axis=axis) / unit)

    result = stats.permutation_test(
        (values, others),
        statistic,
        permutation_type="independent",
        alternative="greater",
        vectorized=True,
        n_resamples=num_resamples,
        rng=rng,
    )
    return float(result.pvalue)


def _bootstrap_interval(
    values: _Floats,
    others: _Floats,
    k: int,
    rng: np.random.Generator,
    num_resamples: int,
    confidence: float,
) -> tuple[float, float]:
    from scipy import stats  # as above

    result = stats.bootstrap(
        (values, others),
        partial(_top_differences, k=k),
        method="percentile",
        confidence_level=confidence,
        vectorized=True,
        n_resamples=num_resamples,
        rng=rng,
    )
    low, high = result.confidence_interval
    return float(low), float(high)


# --- statement ----------------------------------------------------------------------------------


def _statement(verdict: Verdict, name: str, control: str, points: float) -> str:
    best, difference = verdict.best_difference, verdict.difference
    if verdict.interval is None or best is None or difference is None:
        fewest = min(verdict.num_method, verdict.num_control)
        return (
            f"It is undecided whether {name} beats {control}: an arm has only {fewest} "
            f"finished {'child' if fewest == 1 else 'children'}, and at least {MIN_CHILDREN} "
            "are needed."
        )
    subject = name[:1].upper() + name[1:]
    opening = {
        "better": f"{subject} beat {control} at equal cost",
        "not better": f"{subject} did not beat {control} at equal cost",
        "undecided": f"It is undecided whether {name} beats {control} at equal cost",
    }[verdict.outcome]
    top = f", its {verdict.top_k} best on average {_side(difference * points)}"
    low, high = (end * points for end in verdict.interval)
    return (
        f"{opening}: its best child is {_side(best * points)}{top if verdict.top_k > 1 else ''} "
        f"({verdict.confidence:.0%} interval {low:+.2f} to {high:+.2f} points of {verdict.figure}, "
        f"p = {verdict.p_value:.2g})."
    )


def _side(points: float) -> str:
    if math.isclose(points, 0, abs_tol=1e-9):
        return "just as good"
    size = f"{abs(points):.2f}" if abs(points) >= 0.01 else f"{abs(points):.1g}"
    return f"{size} points {'better' if points > 0 else 'worse'}"
