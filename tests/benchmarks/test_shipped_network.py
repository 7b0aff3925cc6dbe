"""Tables and arms of benchmarks/shipped_network.py."""

import sys
from pathlib import Path

import pytest
import shipped_network
import torch
from shipped_network_table import compared, means, recommended

from nascore.spaces.base import ImageShape


def cell(
    arm: str, accuracy: float, right: str = "1111", latency_ms: float = 1.0
) -> dict[str, object]:
    return {
        "arm": arm,
        "test_accuracy": accuracy,
        "valid_right": right,
        "latency_ms": latency_ms,
        "final_s": 2.0,
        "params": 100,
    }


def test_points_are_those_of_the_found_network():
    found = [cell("found", 0.9), cell("found", 0.8)]
    other = [cell("standard", 0.7), cell("standard", 0.9)]
    points, counts, *_ = compared(other, found)
    assert (points, counts) == ("+5.00", "1 / 1")


def test_pairs_have_equal_seeds():
    cells = {
        ("digits", 0, "found"): cell("found", 0.9),
        ("digits", 1, "found"): cell("found", 0.5),
        ("digits", 1, "standard"): cell("standard", 0.6),
    }
    first, second = means(cells, "digits")
    assert first.startswith("| digits | found | 2 | 0.7000 |")
    assert "| digits | standard | 1 | 0.6000 |" in second
    assert "| -10.00 | 0 / 1 |" in second


@pytest.mark.parametrize(
    ("found", "standard", "expected"),
    [
        (("1" * 90 + "0" * 10, 1.0), ("1" * 50 + "0" * 50, 0.1), "found"),
        (("1" * 90 + "0" * 10, 1.0), ("00" + "1" * 89 + "0" * 9, 0.1), "standard"),
    ],
    ids=["the better one", "the faster one of a tie"],
)
def test_recommendation_is_that_of_the_pipeline(found, standard, expected):
    pair = {"found": cell("found", 0.0, *found), "standard": cell("standard", 1.0, *standard)}
    assert recommended(pair) == expected


def test_standard_network_has_the_nearest_size():
    shape = ImageShape(1, 8, 10)
    sizes = [
        shipped_network.size_of(shipped_network.standard_of(wanted, shape, seed=0))
        for wanted in (44_226, 44_300, 60_000)
    ]
    assert sizes[0] == sizes[1] == 44_226
    assert abs(sizes[2] - 60_000) < 60_000 - 44_226


@pytest.mark.slow
def test_arms_on_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cells = tmp_path / "cells.jsonl"
    options = ["--data", "digits", "--seeds", "0", "--cells", str(cells), "--out", str(tmp_path)]
    options += ["--arms", "found", "standard", "control"]
    for setting in ("search.budget.children=2", "search.child.max_steps=2", "train.max_steps=4"):
        options += ["--set", setting]
    threads = torch.get_num_threads()
    monkeypatch.setenv("NAS_TEST_DATA", str(tmp_path))  # digits are read from no folder
    try:
        for more in ([], ["--table"]):
            monkeypatch.setattr(sys, "argv", ["shipped_network.py", *options, *more])
            shipped_network.main()
    finally:
        torch.set_num_threads(threads)
    assert len(cells.read_text().splitlines()) == 3
    page = (tmp_path / "shipped_network.md").read_text()
    assert "| digits | standard | 1 |" in page
    assert "| digits | control | 1 |" in page
