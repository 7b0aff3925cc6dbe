"""Splits that divide neither groups, such as the images of a patient, nor identical images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.findings import Findings, finding
from nascore.data.splits import Indices, SplitIndices

_SALT = 0x5B13


def split_by_group(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    num_test: int,
    num_valid: int,
    config: DataConfig,
    seed: int,
    classes: Sequence[str],
    findings: Findings,
) -> SplitIndices:
    """Split whole groups, with the classes in nearly the same proportions.

    Splits of the source are kept. A group in two of them is a problem, and so is a class with too
    few groups for all splits.

    Args:
        groups: (N,), the group of each image.
        classes: names, by label.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SALT,)))
    num_own = len(labels) - num_test - num_valid
    train = np.arange(num_own)
    valid = np.arange(num_own, num_own + num_valid)
    test = np.arange(num_own + num_valid, len(labels))
    needed = 1 + (not num_test) + (not num_valid)
    _check_groups(labels[train], groups[train], needed, classes, config, findings)
    if not num_test:
        test, train = _carved(train, labels, groups, config.test_fraction, rng)
    if not num_valid:
        valid, train = _carved(train, labels, groups, config.valid_fraction, rng)
    if config.max_train is not None and len(train) + len(valid) > config.max_train:
        share = config.max_train / (len(train) + len(valid))
        train, valid = (_thinned(part, labels, share, rng) for part in (train, valid))
    return SplitIndices(np.sort(train), np.sort(valid), np.sort(test))


def _check_groups(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    needed: int,
    classes: Sequence[str],
    config: DataConfig,
    findings: Findings,
) -> None:
    pairs = np.unique(np.stack([labels, groups]), axis=1)
    counts = np.bincount(pairs[0], minlength=len(classes))
    few = [f"{classes[k]} ({counts[k]})" for k in np.flatnonzero(counts < needed).tolist()]
    if few:
        message = (
            f"{{count}} classes have images of fewer than {needed} groups, one for each split: "
            "{examples}; add groups, or bring a test split of your own"
        )
        findings.problems.append(finding(config, "too-few-groups", message, few))


def _carved(
    positions: Indices,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    fraction: float,
    rng: np.random.Generator,
) -> tuple[Indices, Indices]:
    """Return about a fraction of each class in whole groups, and the rest; both have each class
    that has two groups.
    """
    wanted = np.bincount(labels[positions]) * fraction
    taken = np.zeros_like(wanted)
    members = _members(positions, groups, rng)
    counts = [np.unique(labels[own], return_counts=True) for own in members]
    left = np.bincount(np.concatenate([which for which, _ in counts]), minlength=len(wanted))
    chosen = np.zeros(len(members), bool)
    for number, (which, count) in enumerate(counts):
        gain = np.abs(wanted[which] - taken[which]) - np.abs(wanted[which] - taken[which] - count)
        if gain.sum() > 0 and (left[which] > 1).all():
            chosen[number] = True
            taken[which] += count
            left[which] -= 1
    # A class whose groups are all too large for its share still needs one.
    for number, (which, count) in reversed(list(enumerate(counts))):
        if not chosen[number] and (taken[which] == 0).any() and (left[which] > 1).all():
            chosen[number] = True
            taken[which] += count
            left[which] -= 1
    first, second = (
        [own for own, is_in in zip(members, chosen, strict=True) if is_in == wanted_in]
        for wanted_in in (True, False)
    )
    return _joined(first), _joined(second)


def _joined(parts: Sequence[Indices]) -> Indices:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _members(
    positions: Indices, groups: NDArray[np.int64], rng: np.random.Generator
) -> list[Indices]:
    """Return the positions of each group, large groups first, equal ones in random order."""
    order = positions[np.argsort(groups[positions], kind="stable")]
    breaks = np.flatnonzero(np.diff(groups[order])) + 1
    members = np.split(order, breaks)
    shuffled = [members[number] for number in rng.permutation(len(members))]
    return sorted(shuffled, key=len, reverse=True)


def _thinned(
    positions: Indices, labels: NDArray[np.int64], share: float, rng: np.random.Generator
) -> Indices:
    """Return a fraction of each class, at least one image."""
    kept = []
    for label in np.unique(labels[positions]):
        own = rng.permutation(positions[labels[positions] == label])
        kept.append(own[: max(1, int(len(own) * share))])
    return np.concatenate(kept) if kept else positions


# --- identical images -----------------------------------------------------------------------


def places_of_copies(digests: NDArray[np.uint8], is_known: NDArray[np.bool_]) -> list[Indices]:
    """Return the positions of images that occur more than once, in order of their first."""
    known = np.flatnonzero(is_known)
    keys = np.ascontiguousarray(digests[known]).view([("", np.void, digests.shape[1])]).ravel()
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse] > 1)
    order = repeated[np.argsort(inverse[repeated], kind="stable")]
    if not len(order):
        return []
    found = np.split(known[order], np.flatnonzero(np.diff(inverse[order])) + 1)
    return sorted(found, key=lambda places: int(places[0]))


def keep_together(
    indices: SplitIndices,
    copies: Sequence[Indices],
    labels: NDArray[np.int64],
    *,
    has_own_test: bool,
    has_own_valid: bool,
    seed: int,
) -> SplitIndices:
    """Move identical images that a drawn split has divided into one split.

    A copy is exchanged with an image of its class that has no copy, so that the splits keep their
    sizes; a class without enough of those is split again, whole groups of copies at a time. The
    splits of the source do not change, and neither do splits that divide no copies.

    Args:
        copies: positions of images that occur more than once.
    """
    part = part_of(indices, len(labels))
    drawn = np.array([True, not has_own_valid, not has_own_test, False])  # the last: not used
    group = np.arange(len(labels))
    for places in copies:
        group[places] = places[0]
    is_copy = np.zeros(len(labels), bool)
    for places in copies:
        is_copy[places] = True
    unique: dict[int, Indices] = {}
    for places in copies:
        movable = places[drawn[part[places]]]
        for label in np.unique(labels[movable]).tolist():
            own = movable[labels[movable] == label]
            if len(np.unique(part[own])) > 1:
                if label not in unique:
                    unique[label] = np.flatnonzero((labels == label) & ~is_copy)
                _exchange(part, own, unique[label])
    for label in _divided_classes(part, copies, labels, drawn):
        own = np.flatnonzero((labels == label) & drawn[part])
        _divide_again(part, own, labels, group, seed)
    return SplitIndices(*(np.flatnonzero(part == number) for number in range(3)))


def _exchange(part: NDArray[np.int64], own: Indices, unique: Indices) -> None:
    """Move copies to the split of most of them, and as many others of their class back."""
    target = int(np.bincount(part[own]).argmax())
    others = unique[part[unique] == target]
    outside = own[part[own] != target]
    if len(others) >= len(outside):
        part[others[: len(outside)]] = part[outside]
        part[outside] = target


def _divided_classes(
    part: NDArray[np.int64],
    copies: Sequence[Indices],
    labels: NDArray[np.int64],
    drawn: NDArray[np.bool_],
) -> list[int]:
    found = set()
    for places in copies:
        movable = places[drawn[part[places]]]
        for label in np.unique(labels[movable]).tolist():
            if len(np.unique(part[movable[labels[movable] == label]])) > 1:
                found.add(label)
    return sorted(found)


def _divide_again(
    part: NDArray[np.int64],
    own: Indices,
    labels: NDArray[np.int64],
    group: NDArray[np.int64],
    seed: int,
) -> None:
    """Split the images of one class again, about as many in each split as before."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SALT, int(own[0]))))
    sizes = np.bincount(part[own], minlength=3)
    if len(np.unique(group[own])) < np.count_nonzero(sizes):
        return  # a split would be left without this class
    rest = own
    for number in (2, 1):
        if sizes[number]:
            taken, rest = _carved(rest, labels, group, sizes[number] / len(rest), rng)
            part[taken] = number
    part[rest] = 0


def part_of(indices: SplitIndices, count: int) -> NDArray[np.int64]:
    """Return 0, 1, 2 for images of train, valid, test; -1 for images that are not used."""
    part = np.full(count, -1)
    for number, own in enumerate((indices.train, indices.valid, indices.test)):
        part[own] = number
    return part
