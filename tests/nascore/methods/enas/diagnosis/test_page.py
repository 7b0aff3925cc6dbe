"""Figures and page of a diagnosis: what they say, and that nothing is markup by accident."""

import json
from typing import Any

import pytest
import torch

from nascore.methods.enas.controller import Controller
from nascore.methods.enas.diagnosis.correlation import RankCorrelation
from nascore.methods.enas.diagnosis.diagnosis import Diagnosis, diagnose, fixed_set
from nascore.methods.enas.diagnosis.page import Findings, headline, interval, number, render
from nascore.methods.enas.options import ControllerOptions
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.nasbench201.space import Cell201Space

EVIL = "<script>alert('x')</script>&\"quoted\""


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    space = Cell201Space(Cell201SpaceConfig())
    torch.manual_seed(0)
    controller = Controller(space.cardinalities, ControllerOptions(hidden_size=8))
    return diagnose(controller, fixed_set(space, num_compared=40, num_read=80))


def make_findings(diagnosis: Diagnosis, **changes: Any) -> Findings:
    given: dict[str, Any] = {"method": "enas", "source": "digits", "seed": 1}
    return Findings(**{**given, "now": diagnosis, "initial": diagnosis, **changes})


# --- page -----------------------------------------------------------------------------------


def test_numbers_for_people() -> None:
    assert [number(x) for x in (None, 0.0, 0.12345, -0.5, 1.79e-6, 12.3456)] == [
        "not available",
        "0",
        "0.123",
        "-0.5",
        "1.79e-06",
        "12.3",
    ]
    assert interval((0.1, 0.25)) == "0.1 to 0.25"
    assert interval(None) == "not available"


def test_nothing_that_was_given_is_markup(diagnosis: Diagnosis) -> None:
    page = render(make_findings(diagnosis, method=EVIL, source=EVIL, table=None))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_page_without_a_table_and_a_record_says_so(diagnosis: Diagnosis) -> None:
    page = render(make_findings(diagnosis))
    assert "No table of trained networks was given" in page
    assert "This run has no record of its search" in page
    assert page.count("<svg") == 5


def test_a_page_with_everything(diagnosis: Diagnosis) -> None:
    found = make_findings(
        diagnosis,
        shared_weights={"method": RankCorrelation(50, 0.4567, (0.2, 0.7), 0.3)},
        table={"name": "t.csv", "column": "valid"},
        history={
            "policy/method/reward": [(0, 0.1), (1, 0.5)],
            "policy/method/entropy": [(0, 9.0)],  # one point is no course
        },
    )
    page = render(found)
    assert "0.457" in page
    assert "mean reward, over updates" in page
    assert "entropy of the policy" not in page
    assert [tile["label"] for tile in headline(found)] == [
        "State and graph",
        "First token",
        "Conditioning",
        "Same state",
        "Shared weights",
    ]


def test_what_does_not_vary_is_said_not_to(diagnosis: Diagnosis) -> None:
    """A controller of zeros has one state for all architectures."""
    space = Cell201Space(Cell201SpaceConfig())
    controller = Controller(space.cardinalities, ControllerOptions(hidden_size=8))
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter.zero_()
    blank = diagnose(controller, fixed_set(space, num_compared=40, num_read=80))
    assert blank.correlations["euclidean"]["edit"] is None
    json.dumps(blank.to_dict(), allow_nan=False)
    page = render(make_findings(diagnosis, now=blank))
    assert "does not vary" in page
    assert headline(make_findings(blank))[0]["value"] == "–"
