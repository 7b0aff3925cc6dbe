"""Seeded splits by index: stratified by class, or of different classes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nascore.data.class_splits import ClassSplits
from nascore.errors import InputError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SplitIndices:
    """Sorted, disjoint positions in the order of the source."""

    train: Indices
    valid: Indices
    test: Indices


def split(
    labels: NDArray[np.int64],
    *,
    num_test: int,
    num_valid: int = 0,
    valid_fraction: float,
    test_fraction: float,
    max_train: int | None,
    seed: int,
) -> SplitIndices:
    """Split the images of each class in the same proportions.

    Args:
        labels: (N,), 0..K-1, at least three of each class outside the source's own test split.
        num_test: the last `num_test` are the source's own test split. When it is 0,
            `test_fraction` of every class is cut off first, at least one image.
        num_valid: those before them are its own validation split. When it is 0, `valid_fraction`
            of every class is cut off.
        valid_fraction: fraction of the rest, at least one image of each class.
        max_train: keep at most this many for train and valid together, in the classes' proportions.

    Raises:
        InputError: `max_train` leaves a class without a training or a validation image.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0x5B11,)))
    num_own = len(labels) - num_test - num_valid
    num_classes = int(labels.max()) + 1
    members = [
        rng.permutation(np.flatnonzero(labels[:num_own] == label)) for label in range(num_classes)
    ]
    test = [np.arange(num_own + num_valid, len(labels))]
    if not num_test:
        cuts = [_share(len(own), test_fraction, keep=2) for own in members]
        test = [own[:cut] for own, cut in zip(members, cuts, strict=True)]
        members = [own[cut:] for own, cut in zip(members, cuts, strict=True)]
    if num_valid:
        valid = _of_own(labels, num_own, num_valid, rng)
        members, valid = _at_most_of_both(members, valid, max_train)
        return SplitIndices(*(np.sort(np.concatenate(part)) for part in (members, valid, test)))
    members = _at_most(members, max_train)
    cuts = [_share(len(own), valid_fraction, keep=1) for own in members]
    valid = [own[:cut] for own, cut in zip(members, cuts, strict=True)]
    train = [own[cut:] for own, cut in zip(members, cuts, strict=True)]
    return SplitIndices(*(np.sort(np.concatenate(part)) for part in (train, valid, test)))


def _of_own(
    labels: NDArray[np.int64], start: int, count: int, rng: np.random.Generator
) -> list[Indices]:
    """Return the images of each class in the source's own validation split."""
    own = labels[start : start + count]
    num_classes = int(labels.max()) + 1
    return [start + rng.permutation(np.flatnonzero(own == label)) for label in range(num_classes)]


def _at_most_of_both(
    train: list[Indices], valid: list[Indices], total: int | None
) -> tuple[list[Indices], list[Indices]]:
    """Return at most `total` images, in the proportions of both splits and of their classes."""
    if total is None:
        return train, valid
    sizes = [sum(map(len, part)) for part in (train, valid)]
    num_train, num_valid = _quotas(sizes, total, least=1)
    return _at_most(train, num_train, least=1), _at_most(valid, num_valid, least=0)


def split_by_class(
    labels: NDArray[np.int64], classes: ClassSplits, *, max_train: int | None, seed: int
) -> SplitIndices:
    """Return all images of the classes of each split.

    Args:
        max_train: keep at most this many of the training and validation classes together, in the
            classes' proportions; all of the test classes are kept.

    Raises:
        InputError: `max_train` leaves a class with fewer than two images.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0x5B12,)))
    chosen = [*classes.train, *classes.valid]
    members = _at_most(
        [rng.permutation(np.flatnonzero(labels == label)) for label in chosen], max_train
    )
    train, valid = members[: len(classes.train)], members[len(classes.train) :]
    test = [np.flatnonzero(labels == label) for label in classes.test]
    return SplitIndices(*(np.sort(np.concatenate(part)) for part in (train, valid, test)))


def _at_most(members: list[Indices], total: int | None, *, least: int = 2) -> list[Indices]:
    """Return the first images of each class, at most `total` of all."""
    if total is None:
        return members
    quotas = _quotas([len(own) for own in members], total, least=least)
    return [own[:quota] for own, quota in zip(members, quotas, strict=True)]


def _share(count: int, fraction: float, *, keep: int) -> int:
    """Return a rounded fraction, at least one, leaving at least `keep`."""
    return max(0, min(max(1, round(count * fraction)), count - keep))


def _quotas(counts: list[int], total: int, *, least: int = 2) -> list[int]:
    """Return `total` images in proportion to `counts`, by largest remainders: each within 1 of
    exact.
    """
    available = sum(counts)
    if total >= available:
        return counts
    quotas = [count * total // available for count in counts]
    remainders = [count * total % available for count in counts]
    order = sorted(range(len(counts)), key=lambda label: (-remainders[label], label))
    for label in order[: total - sum(quotas)]:
        quotas[label] += 1
    if min(quotas) < least:
        raise InputError.of(
            "data.max_train",
            total,
            f"leaves {sum(quota < least for quota in quotas)} of {len(quotas)} classes with fewer "
            f"than {least} images, which each of them needs; use at least "
            f"{math.ceil(least * available / max(min(counts), 1))}",
        )
    return quotas
