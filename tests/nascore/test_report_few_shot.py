"""The section on networks that learn from few examples: its numbers, and what it says of them."""

from typing import Any

import pytest

from nascore.report.sections import sections_of


def score(mean: float, interval: float = 0.01) -> dict[str, Any]:
    return {"mean": mean, "interval": interval, "num_tasks": 600}


def details(*differences: float) -> dict[str, Any]:
    return {
        "episode": {"ways": 5, "shots": 1, "queries": 15},
        "transductive": False,
        "num_params": 28_123,
        "cell": {"architecture": "2=conv3(0)+max(1)", "blocks": 3, "depth": 2, "width": 2},
        "four_convolutions": {"channels": 32, "num_params": 28_485},
        "tests": [
            {
                "shots": shots,
                "own": score(0.9 + difference),
                "four_convolutions": score(0.9),
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
    for told in ("28485", "95.0 ± 1.0%", "5.0 ± 1.0%", "+0.46", "600", "2=conv3(0)+max(1)"):
        assert told in shown
    assert "each for itself" in shown


@pytest.mark.parametrize(
    ("differences", "told"),
    [
        ((0.005, -0.005), "no different from"),
        ((0.05, 0.005), "better than"),
        ((-0.05, 0.005), "worse than"),
        ((-0.05, 0.05), "better in one test and worse in another than"),
    ],
)
def test_only_what_is_beyond_the_interval_is_a_difference(
    differences: tuple[float, ...], told: str
) -> None:
    (shown,) = sections_of({"auto_meta": details(*differences)}, None, {})
    assert f"is {told} the four convolutions" in shown
