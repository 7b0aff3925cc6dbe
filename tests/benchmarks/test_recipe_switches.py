"""Comparison of cells in benchmarks/recipe_switches.py."""

import pytest
from recipe_switches import EXPERIMENTS, ROWS, compare

from nascore.config import TrainingConfig


def test_difference_is_paired_by_seed():
    cells = {
        (row, seed): {"test_accuracy": accuracy, "cpu_s": cpu_s}
        for row, seed, accuracy, cpu_s in [
            ("base", 0, 0.50, 1.0),
            ("base", 1, 0.60, 1.0),
            ("ema 0.1", 0, 0.52, 2.0),
            ("ema 0.1", 1, 0.66, 3.0),
            ("ema 0.1", 2, 0.99, 9.0),
        ]
    }
    found = compare(cells, "ema 0.1")
    assert found is not None
    assert found["seeds"] == [0, 1]
    assert found["difference"] == pytest.approx(4.0)
    assert found["cpu_ratio"] == pytest.approx(2.5)
    assert compare(cells, "compile") is None


def test_each_row_is_a_valid_configuration_of_its_own():
    digests = [one.digest(row) for one in EXPERIMENTS.values() for row in one.rows]
    assert len(set(digests)) == len(digests) >= len(ROWS) + 6
    assert set().union(*ROWS.values()) <= set(TrainingConfig.model_fields)
