"""Splits: disjoint, stratified, seeded, and the same on every machine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nascore.data.splits import SplitIndices, split
from nascore.errors import InputError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [40, 10, 25, 3]))


def cut(labels: np.ndarray = LABELS, **changes: object) -> SplitIndices:
    arguments: dict = {
        "num_test": 0,
        "valid_fraction": 0.15,
        "test_fraction": 0.2,
        "max_train": None,
        "seed": 0,
    }
    return split(labels, **(arguments | changes))


def counts(labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.bincount(labels[indices], minlength=labels.max() + 1)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 60), min_size=2, max_size=6),
    valid=st.floats(0.01, 0.95),
    test=st.floats(0.01, 0.95),
    seed=st.integers(0, 5),
)
def test_every_image_is_in_one_split_and_every_class_in_each(
    sizes: list[int], valid: float, test: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    parts = cut(labels, valid_fraction=valid, test_fraction=test, seed=seed)
    together = np.concatenate([parts.train, parts.valid, parts.test])
    assert np.array_equal(np.sort(together), np.arange(len(labels)))
    for part in (parts.train, parts.valid, parts.test):
        assert np.array_equal(part, np.sort(part))
        assert part.dtype == np.int64
        assert counts(labels, part).min() >= 1


def test_each_class_is_within_one_image_of_its_share() -> None:
    sizes = np.array([400, 100, 251, 37])
    labels = np.repeat(np.arange(4), sizes)
    parts = cut(labels)
    assert np.abs(counts(labels, parts.test) - 0.2 * sizes).max() <= 1
    assert np.abs(counts(labels, parts.valid) - 0.15 * 0.8 * sizes).max() <= 1


def test_own_test_split_is_kept_whole() -> None:
    parts = cut(num_test=20)
    assert parts.test.tolist() == list(range(58, 78))
    assert max(parts.train.max(), parts.valid.max()) < 58
    assert len(parts.train) + len(parts.valid) == 58


def test_seed_decides_and_nothing_else() -> None:
    again, other = cut(), cut(seed=1)
    assert np.array_equal(cut().train, again.train)
    assert not np.array_equal(again.train, other.train)
    assert np.array_equal(counts(LABELS, again.train), counts(LABELS, other.train))


def test_split_is_the_same_on_every_machine() -> None:
    """Golden: numpy may change what a generator draws; then old splits could not be repeated."""
    parts = cut(np.repeat([0, 1], [9, 6]))
    assert parts.test.tolist() == [1, 5, 12]
    assert parts.valid.tolist() == [8, 13]


@pytest.mark.parametrize("num_test", [0, 20])
@pytest.mark.parametrize("max_train", [60, 47, 33])
def test_max_train_is_exact_and_keeps_proportions(max_train: int, num_test: int) -> None:
    labels = np.tile(np.repeat(np.arange(3), [8, 4, 3]), 10)
    everything = cut(labels, num_test=num_test)
    parts = cut(labels, num_test=num_test, max_train=max_train)
    kept = np.concatenate([parts.train, parts.valid])
    before = counts(labels, np.concatenate([everything.train, everything.valid]))
    assert len(kept) == max_train
    assert np.abs(counts(labels, kept) - max_train * before / before.sum()).max() < 1
    assert np.array_equal(parts.test, everything.test)


def test_max_train_rounds_up_where_most_is_missing() -> None:
    labels = np.repeat([0, 1, 2, 0, 1, 2], [50, 26, 24, 1, 1, 1])
    parts = cut(labels, num_test=3, max_train=10)  # 5, 2.6 and 2.4 are due
    assert counts(labels, np.concatenate([parts.train, parts.valid])).tolist() == [5, 3, 2]


def test_max_train_above_what_there_is_changes_nothing() -> None:
    assert np.array_equal(cut(max_train=10**6).train, cut().train)


def test_max_train_that_starves_a_class_says_what_is_enough() -> None:
    labels = np.repeat([0, 1, 2], [100, 10, 10])
    with pytest.raises(InputError, match=r"leaves 2 of 3 classes .* use at least (\d+)") as caught:
        cut(labels, max_train=12)
    enough = int(str(caught.value).rsplit(" ", 1)[1])
    assert counts(labels, cut(labels, max_train=enough).valid).min() == 1
