"""The section on a search within a budget: its numbers and its charts."""

from typing import Any

import pytest

from nascore.report.sections import places_of, sections_of


def row(u: float) -> dict[str, Any]:
    return {
        "u": u,
        "exploration": max(0.0, 1 - u / 0.6),
        "entropy": {"branch": 2.0 - u, "height": 1.0},
        "candidates": 90 - 60 * u,
        "probs": {"branch": [0.5 + 0.4 * u, 0.5 - 0.4 * u], "height": [1.0]},
    }


@pytest.fixture
def details() -> dict[str, Any]:
    return {
        "budget": {"amount": 600, "unit": "seconds"},
        "seconds": 601.0,
        "steps": 12_345,
        "warmup": 0.05,
        "exploring_share": 0.6,
        "candidates": 96,
        "dropped": None,
        "values": {"branch": ["conv", "pool"], "height": [3]},
        "history": [row(u / 4) for u in range(5)],
    }


def test_it_shows_the_course_and_the_probabilities_of_each_axis(details: dict[str, Any]) -> None:
    (shown,) = sections_of({"nasib": details}, None, {})
    assert "12,345" in shown
    assert "Uniform choices end at 60% of the budget" in shown
    assert "candidates fall from 90 to 30 per edge" in shown
    assert "Operation, at the end, over all edges: conv 90%, pool 10%" in shown
    assert shown.count("<svg") == 2, "an axis of one value has no chart"
    for colour in ("method", "control", "good"):
        assert f"stroke: var(--{colour})" in shown
    assert places_of({"nasib": details}) == []
