"""Section of the report with the networks that were compared with the found one."""

from typing import Any

from nascore.report.references import section

ROW = {
    "test_accuracy": 0.9715,
    "valid_accuracy": 0.97,
    "valid_score": 0.97,
    "params": 30316,
    "seconds": 70.0,
    "epochs": 12.5,
    "latency_ms": 0.5,
}
OTHER = {**ROW, "name": "standard", "test_accuracy": 0.9835, "difference": -0.012, "p_value": 0.003}
RESULT: dict[str, Any] = {
    "found": {**ROW, "name": "found"},
    "control": {"final": {**OTHER, "name": "control", "p_value": 0.5}},
    "references": [OTHER],
    "references_left_out": [{"name": "resnet18", "reason": "it would complete 1.2 epochs"}],
    "recommendation": {"ship": "standard", "why": "The standard network is <better>."},
    "shipped": {"name": "standard", "test_accuracy": 0.9835},
}


def test_found_network_control_and_standard_networks_are_rows() -> None:
    page = section(RESULT, "accuracy")
    assert page.count("<tr") == 1 + 3
    for text in ("97.15%", "98.35%", "-1.20", "0.003", "30,316", "12.5", "0.500 ms"):
        assert text in page
    assert "The standard network is &lt;better&gt;." in page
    assert "resnet18 was left out: it would complete 1.2 epochs." in page
    assert page.count('<span class="tag">recommended</span>') == 1
    assert "The registered model is <strong>standard</strong>" in page


def test_a_run_without_comparison_says_why() -> None:
    nothing = {"found": None, "references": [], "references_left_out": [], "shipped": None}
    page = section(
        {**nothing, "recommendation": {"ship": "found", "why": "Too short."}}, "accuracy"
    )
    assert "Too short." in page
    assert "<table" not in page
    assert "was not recorded" in section({}, "accuracy")
