"""Splits by class for few-shot tasks, and the numbers of classes and images that tasks need.

A task (episode) has `ways` classes, `shots` labelled images of each to learn from, the support set,
and `queries` others to be evaluated on, the query set. Training, validation and test use different
classes, not different images of the same ones. Where a source names groups of classes, such as the
alphabets of Omniglot, a group is never divided. Imports no torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from nascore.errors import InputError, Problem

SPLITS = ("train", "valid", "test")
GROUPS = "groups of classes"


@dataclass(frozen=True, slots=True)
class EpisodeShape:
    """Size of a task.

    Attributes:
        ways: classes of a task.
        shots, queries: images of each class in the support set and in the query set.
    """

    ways: int
    shots: int
    queries: int

    def __post_init__(self) -> None:
        problems = [
            Problem(f"episode.{field.name}", str(value), f"must be at least {least}")
            for field, least in zip(fields(self), (2, 1, 1), strict=True)
            if (value := getattr(self, field.name)) < least
        ]
        if problems:
            raise InputError(problems)

    @property
    def per_class(self) -> int:
        """Images of each class in a task."""
        return self.shots + self.queries


@dataclass(frozen=True, slots=True)
class Need:
    """Tasks that a run will draw, and the configuration keys of their size.

    Attributes:
        splits: splits from which they are drawn.
        ways, images: keys of the settings, for messages.
    """

    shape: EpisodeShape
    splits: tuple[str, ...] = SPLITS
    ways: str = "episode.ways"
    images: str = "episode.shots + queries"


@dataclass(frozen=True, slots=True)
class ClassSplits:
    """The classes of each split, as labels of the data.

    Raises:
        InputError: A class is in two of them.
    """

    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        problems = []
        for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
            shared = sorted(set(getattr(self, first)) & set(getattr(self, second)))
            if shared:
                shown = ", ".join(map(str, shared[:5])) + (", ..." if len(shared) > 5 else "")
                message = f"{len(shared)} in both; a class belongs to one split alone"
                problems.append(Problem(f"classes of {first} and {second}", shown, message))
        if problems:
            raise InputError(problems)

    def of(self, split: str) -> tuple[int, ...]:
        """Return the classes of `train`, `valid` or `test`."""
        classes: tuple[int, ...] = getattr(self, split)
        return classes


def split_classes(
    groups: Sequence[str | int], *, valid_fraction: float, test_fraction: float, seed: int
) -> ClassSplits:
    """Split classes in three, whole groups at a time, each split with at least one group.

    Args:
        groups: the group of each class, such as its alphabet; the class itself where there are
            none.
        valid_fraction, test_fraction: fraction of the groups, rounded.

    Raises:
        InputError: There are fewer than three groups.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < len(SPLITS):
        message = "train, valid and test need one each; use data with at least three"
        raise InputError.of(GROUPS, len(names), message)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0xE915,)))
    shuffled = [names[i] for i in rng.permutation(len(names))]
    num_test = min(max(1, round(len(names) * test_fraction)), len(names) - 2)
    num_valid = min(max(1, round(len(names) * valid_fraction)), len(names) - num_test - 1)
    parts = (
        set(shuffled[num_test + num_valid :]),
        set(shuffled[num_test : num_test + num_valid]),
        set(shuffled[:num_test]),
    )
    chosen = (tuple(c for c, group in enumerate(groups) if group in part) for part in parts)
    return ClassSplits(*chosen)


def unmet(
    needs: Iterable[Need], counts: Sequence[int], splits: ClassSplits | None
) -> list[Problem]:
    """Return a problem for each need that the data does not meet.

    Args:
        counts: images of each class that may be used.
        splits: None where the classes could not be split; then only images are counted.
    """
    problems: list[Problem] = []
    for need in needs:
        of = {name: tuple(range(len(counts))) for name in need.splits[:1]}
        if splits is not None:
            of = {name: splits.of(name) for name in need.splits}
        for name, classes in of.items():
            of_which = "" if splits is None else f"{name} "
            problems += _unmet(need, of_which, classes, [counts[label] for label in classes])
    return list(dict.fromkeys(problems))


def _unmet(
    need: Need, of_which: str, classes: Sequence[int], counts: Sequence[int]
) -> Iterable[Problem]:
    shape = need.shape
    if len(classes) < shape.ways:
        message = (
            f"there are only {len(classes)} {of_which}classes; use at most that many, or split the "
            "classes otherwise (data.valid_fraction, data.test_fraction)"
        )
        yield Problem(need.ways, str(shape.ways), message)
    few = sum(count < shape.per_class for count in counts)
    if few:
        message = (
            f"{few} of {len(classes)} {of_which}classes have fewer images, one of them "
            f"{min(counts)}; use at most {min(counts)} together"
        )
        yield Problem(need.images, str(shape.per_class), message)
