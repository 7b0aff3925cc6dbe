"""Drift between data sets: real digits, and what becomes of them."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from nascore.config import DataConfig
from nascore.data.batches import load
from nascore.data.drift import NUM_BINS, DataProfile, drift, profile, stability
from nascore.data.prepared import prepare


def of(folder: Path) -> DataProfile:
    return profile(load(folder, torch.device("cpu")))


def write(path: Path, images: np.ndarray, labels: np.ndarray) -> DataConfig:
    np.savez(path, x_train=images, y_train=labels)
    return DataConfig(source=f"npz:{path}")


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) * 15.9).astype(np.uint8), labels.astype(np.int64)


def test_a_profile_says_what_is_there(digits_folder: Path) -> None:
    found = of(digits_folder)
    assert (found.channels, found.size, len(found.classes)) == (1, 8, 10)
    assert sum(found.class_shares) == pytest.approx(1)
    assert [len(shares) for shares in found.value_shares] == [NUM_BINS]
    assert sum(found.value_shares[0]) == pytest.approx(1)
    assert DataProfile.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_another_sample_of_the_same_is_no_drift_and_a_darker_one_is(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    first = write(tmp_path / "a.npz", images[:900], labels[:900])
    second = write(tmp_path / "b.npz", images[900:], labels[900:])
    dark = write(tmp_path / "c.npz", images[900:] // 2, labels[900:])
    profiles = []
    for number, config in enumerate((first, second, dark)):
        prepare(config, seed=0, folder=tmp_path / str(number))
        profiles.append(of(tmp_path / str(number)))
    assert drift(profiles[0], profiles[0]).largest == 0
    assert drift(profiles[0], profiles[1]).largest < 0.1
    darker = drift(profiles[0], profiles[2])
    assert darker.values > 0.25
    assert darker.classes < 0.1


def test_other_class_shares_are_a_drift(digits_folder: Path) -> None:
    before = of(digits_folder)
    shares = [0.55] + [0.05] * 9
    after = dataclasses.replace(before, class_shares=tuple(shares))
    assert drift(before, after).classes > 0.25
    assert drift(before, after).values == 0


def test_other_classes_or_sizes_cannot_be_compared_and_it_is_reported_why(
    digits_folder: Path,
) -> None:
    before = of(digits_folder)
    found = drift(before, dataclasses.replace(before, classes=("a", "b"), size=16))
    assert found.largest == math.inf
    assert "image size was 8, is 16" in found.schema
    assert any("10: 0, 1" in line and "2: a, b" in line for line in found.schema)


def test_the_index_by_hand() -> None:
    expected = 0.25 * math.log(0.75 / 0.5) + -0.25 * math.log(0.25 / 0.5)
    assert stability([0.5, 0.5], [0.75, 0.25]) == pytest.approx(expected)
    assert math.isfinite(stability([1, 0], [0, 1]))
