"""Train, valid and test: stratified, seeded, and recorded by index."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    valid_fraction: float,
    test_fraction: float,
    max_train: int | None,
    seed: int,
) -> SplitIndices:
    """Cuts the images of each class in the same proportions.

    Args:
        labels: (N,), 0..K-1; the last `num_test` are the source's own test split. When there is
            none, `test_fraction` of every class is cut off first, at least one image.
        valid_fraction: share of what remains, at least one image a class.
        max_train: keep at most this many for train and valid together, in the classes' proportions.

    Raises:
        InputError: `max_train` leaves a class without a training or a validation image.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0x5B11,)))
    num_own = len(labels) - num_test
    num_classes = int(labels.max()) + 1
    train: list[Indices] = []
    valid: list[Indices] = []
    test: list[Indices] = [np.arange(num_own, len(labels))] if num_test else []
    for label in range(num_classes):
        members = rng.permutation(np.flatnonzero(labels[:num_own] == label))
        if not num_test:
            cut = _share(len(members), test_fraction, keep=2)
            test.append(members[:cut])
            members = members[cut:]
        if max_train is not None:
            own = num_own if num_test else num_own * (1 - test_fraction)
            members = members[: max(1, round(max_train * len(members) / own))]
        if len(members) < 2:
            raise InputError.of(
                "data.max_train",
                max_train,
                f"leaves {len(members)} images of class {label}; train and valid need one each; "
                "raise it",
            )
        cut = _share(len(members), valid_fraction, keep=1)
        valid.append(members[:cut])
        train.append(members[cut:])
    return SplitIndices(*(np.sort(np.concatenate(part)) for part in (train, valid, test)))


def _share(count: int, fraction: float, *, keep: int) -> int:
    """Rounded share, at least one, leaving at least `keep`."""
    return min(max(1, round(count * fraction)), count - keep)
