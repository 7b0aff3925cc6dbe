"""Section of the report with the ensemble of the finalists."""

from typing import Any

from nascore.report.ensemble import section, statement

MEMBER = {
    "architecture": "A <deep> one",
    "num_params": 30316,
    "test_accuracy": 0.9715,
    "valid_accuracy": 0.97,
    "difference": 0.0,
    "p_value": 1.0,
    "latency_ms": 0.5,
}
ENSEMBLE: dict[str, Any] = {
    "members": [MEMBER, {**MEMBER, "test_accuracy": 0.96, "difference": 0.0115, "p_value": 0.03}],
    "num_params": 60632,
    "test_accuracy": 0.98,
    "valid_accuracy": 0.99,
    "difference": -0.0085,
    "p_value": 0.004,
    "latency": {"p50_ms": 1.25},
}


def test_members_and_ensemble_are_rows() -> None:
    page = section({"ensemble": ENSEMBLE})
    assert page.count("<tr") == 1 + 3
    for text in (
        "finalist 2",
        "97.15%",
        "+1.15",
        "0.03",
        "1.25 ms",
        "60,632",
        "A &lt;deep&gt; one",
    ):
        assert text in page, text
    assert "The ensemble of 2 finalists has 98.00% test accuracy, +0.85 points against" in page


def test_a_run_without_an_ensemble_has_no_section() -> None:
    assert section({"ensemble": None}) == section({}) == ""


def test_a_finalist_that_is_better_than_the_winner_is_named() -> None:
    better = {**MEMBER, "valid_accuracy": 0.98}
    found = statement({**ENSEMBLE, "members": [MEMBER, MEMBER, better]})
    assert "finalist 3 has a validation accuracy of 98.00%, and the winner of the search" in found
    assert "validation accuracy" not in statement(ENSEMBLE)
