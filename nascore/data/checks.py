"""Checks of a data set that is read and split: copies, contradicting labels, constant images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.class_splits import SPLITS
from nascore.data.content import Content
from nascore.data.findings import Finding, Tally, finding
from nascore.data.grouping import part_of
from nascore.data.raw_dataset import Raw
from nascore.data.splits import Indices, SplitIndices

_MOST_BITS = 7  # of 128 that may differ between pictures that look the same
_BANDS = 8  # two hashes that differ in fewer bits share one of these bands of 16 bits
_FAR = 32  # neighbours that are compared within a band
_MANY = 200_000
_CHANNELS = {3: ("red", "green", "blue")}


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of the checks.

    Attributes:
        faults: findings that make metrics untrustworthy.
        warnings: findings to look at.
    """

    faults: list[Finding]
    warnings: list[Finding]


def check(
    raw: Raw,
    indices: SplitIndices,
    content: Content,
    copies: Sequence[Indices],
    histogram: NDArray[np.int64],
    config: DataConfig,
) -> Checked:
    """Check everything that is known once all images are decoded and split.

    Args:
        copies: positions of images that occur more than once.
        histogram: (C, 256), pixel values of the training images.
    """
    part = part_of(indices, len(raw.labels))
    faults = [
        *_check_copies(raw, part, copies, config),
        *_check_constant(raw, content, config),
        *_check_channels(histogram, config),
    ]
    near = _check_near(raw, part, content, copies, config)
    return Checked(faults, near)


def check_group_splits(raw: Raw, indices: SplitIndices, config: DataConfig) -> list[Finding]:
    """Return a problem where the source's own splits divide groups."""
    if raw.image_groups is None:
        return []
    part = part_of(indices, len(raw.labels))
    used = part >= 0
    pairs = np.unique(np.stack([raw.image_groups[used], part[used]]), axis=1)
    groups, counts = np.unique(pairs[0], return_counts=True)
    divided = groups[counts > 1]
    if not len(divided):
        return []
    examples = []
    for group in divided[:3]:
        places = np.flatnonzero(used & (raw.image_groups == group))
        first = [places[part[places] == number][0] for number in np.unique(part[places])]
        examples.append(" and ".join(raw.name_of(int(place)) for place in first))
    message = (
        "{count} groups (data.group) stand in several splits, such as those of {examples}; give "
        "each group one split"
    )
    return [finding(config, "group-across-splits", message, examples, count=len(divided))]


# --- exact copies ---------------------------------------------------------------------------


def _check_copies(
    raw: Raw, part: NDArray[np.int64], copies: Sequence[Indices], config: DataConfig
) -> list[Finding]:
    across, within, conflicts = Tally(), Tally(), Tally()
    num_copies = 0
    for places in copies:
        names = [raw.name_of(int(place)) for place in places[:2]]
        splits = [number for number in np.unique(part[places]).tolist() if number >= 0]
        is_conflict = len(np.unique(raw.labels[places])) > 1
        if is_conflict:
            first = places[0]
            other = next(p for p in places if raw.labels[p] != raw.labels[first])
            pair = (f"{raw.name_of(int(p))} ({raw.classes[raw.labels[p]]})" for p in (first, other))
            conflicts.add(" and ".join(pair))
        if len(splits) > 1:
            first_of = [int(places[part[places] == number][0]) for number in splits[:2]]
            pair = (f"{raw.name_of(p)} ({SPLITS[part[p]]})" for p in first_of)
            across.add(" and ".join(pair))
        elif not is_conflict:
            within.add(" and ".join(names))
            num_copies += len(places) - 1
    found = []
    for kind, tally, count, message in (
        (
            "duplicate-across-splits",
            across,
            across.count,
            "{count} pictures stand in more than one split, so that results are too good: "
            "{examples}; remove the copies",
        ),
        (
            "label-conflict",
            conflicts,
            conflicts.count,
            "{count} pictures have several labels: {examples}; keep the right one",
        ),
        (
            "duplicate",
            within,
            num_copies,
            "{count} images are copies of others in their split: {examples}; remove them",
        ),
    ):
        if tally.count:
            found.append(finding(config, kind, message, tally.examples, count=count))
    return found


def _check_constant(raw: Raw, content: Content, config: DataConfig) -> list[Finding]:
    places = np.flatnonzero(content.is_constant & content.is_known)
    if not len(places):
        return []
    message = "{count} images have one colour only: {examples}; remove them"
    names = [raw.name_of(int(place)) for place in places[:3]]
    return [finding(config, "constant-image", message, names, count=len(places))]


def _check_channels(histogram: NDArray[np.int64], config: DataConfig) -> list[Finding]:
    constant = np.flatnonzero((histogram > 0).sum(axis=1) == 1)
    if not len(constant):
        return []
    names = _CHANNELS.get(len(histogram), tuple(f"channel {c}" for c in range(len(histogram))))
    examples = [f"{names[c]} (always {int(histogram[c].argmax())})" for c in constant]
    message = "{count} channels are the same in all training images: {examples}; leave them out"
    return [finding(config, "constant-channel", message, examples)]


# --- near copies ----------------------------------------------------------------------------


def _check_near(
    raw: Raw,
    part: NDArray[np.int64],
    content: Content,
    copies: Sequence[Indices],
    config: DataConfig,
) -> list[Finding]:
    usable = content.has_hash & content.is_known
    for places in copies:  # of exact copies one is enough
        usable[places[1:]] = False
    places = np.flatnonzero(usable)
    pairs = near_pairs(content.hashes[places])
    if not len(pairs):
        return []
    pairs = places[pairs]
    both = part[pairs]
    num_across = int(((both[:, 0] != both[:, 1]) & (both >= 0).all(axis=1)).sum())
    names = [" and ".join(raw.name_of(int(place)) for place in pair) for pair in pairs[:3]]
    message = (
        f"{{count}} pairs of images look nearly the same, {num_across} of them across splits: "
        "{examples}; look at them (frames of one video need data.group)"
    )
    return [finding(config, "near-duplicate", message, names, count=len(pairs))]


def near_pairs(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return pairs (P, 2) of positions of rows that differ in few bits.

    Rows that share a band of bits are sorted next to each other, and each is compared with the next
    ones. Where more rows share a band than are compared, some pairs are missed.
    """
    count = len(hashes)
    if count < 2:
        return np.zeros((0, 2), np.int64)
    words = np.ascontiguousarray(hashes).view(np.uint64)
    bands = np.ascontiguousarray(hashes).view(np.uint16)
    far = _FAR if count <= _MANY else _FAR // 4
    found = []
    for band in range(_BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        values = bands[order, band]
        for step in range(1, min(far, count - 1) + 1):
            same = np.flatnonzero(values[step:] == values[:-step])
            if not len(same):
                break
            one, other = order[same], order[same + step]
            bits = np.bitwise_count(words[one] ^ words[other]).sum(axis=1)
            close = bits <= _MOST_BITS
            found.append(np.stack([one[close], other[close]], axis=1))
    if not found:
        return np.zeros((0, 2), np.int64)
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0)
