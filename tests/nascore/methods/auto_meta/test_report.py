"""The section on networks that learn from few examples: its numbers, and what it says of them."""

from typing import Any

import pytest

from nascore.report.sections import sections_of


def score(mean: float, interval: float = 0.01) -> dict[str, Any]:
    return {"mean": mean, "interval": interval, "num_tasks": 600}


def inner(num_steps: int, rate: float) -> dict[str, Any]:
    return {"optimiser": "sgd", "learning_rate": rate, "num_steps": num_steps}


def details(*differences: float) -> dict[str, Any]:
    return {
        "inner": inner(3, 0.03),
        "episode": {"ways": 5, "shots": 1, "queries": 15},
        "transductive": False,
        "num_params": 28_123,
        "cell": {"architecture": "2=conv3(0)+max(1)", "blocks": 3, "depth": 2, "width": 2},
        "conv4_baseline": {"channels": 32, "num_params": 28_485, "inner": inner(3, 0.03)},
        "tests": [
            {
                "shots": shots,
                "own": score(0.9 + difference),
                "conv4_baseline": score(0.9),
                "difference": score(difference),
            }
            for shots, difference in enumerate(differences, start=1)
        ],
        "stages": [
            {"blocks": 1, "trained": 78, "mean": 0.5, "best": 0.6, "rank_correlation": None},
            {"blocks": 2, "trained": 9, "mean": 0.6, "best": 0.7, "rank_correlation": 0.456},
        ],
    }


def test_it_says_what_the_details_say() -> None:
    (shown,) = sections_of({"auto_meta": details(0.05)}, None, {})
    for expected in ("28485", "95.0 ± 1.0%", "5.0 ± 1.0%", "+0.46", "600", "2=conv3(0)+max(1)"):
        assert expected in shown
    assert "one by one" in shown


def test_it_says_how_each_network_learns_a_task() -> None:
    given = details(0.05)
    (shown,) = sections_of({"auto_meta": given}, None, {})
    assert "in 3 steps of sgd at a rate of 0.03." in shown
    given["conv4_baseline"]["inner"] = inner(1, 0.1)
    (shown,) = sections_of({"auto_meta": given}, None, {})
    assert "rate of 0.03, Conv-4 in one step of sgd at a rate of 0.1." in shown


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((0.005, -0.005), "not different from"),
        ((0.05, 0.005), "better than"),
        ((-0.05, 0.005), "worse than"),
        ((-0.05, 0.05), "better in one test and worse in another than"),
    ],
)
def test_only_what_is_beyond_the_interval_is_a_difference(
    differences: tuple[float, ...], expected: str
) -> None:
    (shown,) = sections_of({"auto_meta": details(*differences)}, None, {})
    assert f"is {expected} Conv-4" in shown


def times(p50: float) -> dict[str, Any]:
    return {"p50_ms": p50, "p95_ms": 2 * p50, "mean_ms": p50, "std_ms": 0.1, "runs": 50}


def test_it_says_how_long_learning_and_answering_take() -> None:
    own = {"adaptation": times(31.0), "prediction": times(4.0)}
    other = {"adaptation": times(17.0), "prediction": times(2.0)}
    measured = {"ways": 5, "images": 25, **own, "conv4_baseline": other}
    (shown,) = sections_of({"auto_meta": details(0.05)}, {"few_shot": measured}, {})
    for expected in ("31.0 ms", "62.0 ms", "4.00 ms", "8.00 ms", "17.0 ms", "2.00 ms", "25 images"):
        assert expected in shown
    del measured["conv4_baseline"]
    (alone,) = sections_of({"auto_meta": details(0.05)}, {"few_shot": measured}, {})
    assert "31.0 ms" in alone
    assert "17.0 ms" not in alone
    assert "Latency" not in sections_of({"auto_meta": details(0.05)}, None, {})[0]
