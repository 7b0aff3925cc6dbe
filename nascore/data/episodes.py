"""Few-shot data: tasks of a few classes with a few labelled images each, drawn on the device.

A task (episode) has `ways` classes; of each, `shots` images with labels to learn from, the support
set, and `queries` others to be judged by. Training, validation and test use different classes, not
different images of the same ones. Where a source names groups of classes, such as the alphabets of
Omniglot, a group is never cut in two.

Shapes: T tasks, N = ways * shots images of a support set, M = ways * queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.errors import InputError, Problem

SPLITS = ("train", "valid", "test")
_MIN_STD = 1e-3  # a channel that is constant is centred, and not divided by zero


@dataclass(frozen=True, slots=True)
class EpisodeShape:
    """How large a task is.

    Attributes:
        ways: classes of a task.
        shots, queries: images of each class to learn from, and to be judged by.
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
        return self.shots + self.queries


@dataclass(frozen=True, slots=True)
class Episodes:
    """Several tasks as whole tensors; images stand class by class, labels are 0..ways-1.

    Attributes:
        support_x: (T, N, C, H, W), normalised by the training classes.
        support_y: (T, N).
        query_x: (T, M, C, H, W).
        query_y: (T, M).
        classes: (T, ways), which class of the data a label stands for.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True)
class ClassSplits:
    """The classes of each split, as labels of the data.

    Raises:
        InputError: a class stands in two of them.
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


def split_classes(
    groups: Sequence[str | int], *, valid_fraction: float, test_fraction: float, seed: int
) -> ClassSplits:
    """Cuts classes into three splits, whole groups at a time, each at least one group.

    Args:
        groups: the group of each class, such as its alphabet; the class itself where there are
            none.
        valid_fraction, test_fraction: share of the groups, rounded.

    Raises:
        InputError: there are fewer than three groups.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < len(SPLITS):
        message = "train, valid and test need one each; use data with at least three"
        raise InputError.of("groups of classes", len(names), message)
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


class EpisodeSampler:
    """Draws tasks of one split.

    Attributes:
        used: every class that a task was ever drawn from. What holds only a sampler of training
            and one of validation classes can be shown not to have seen a test class.
    """

    def __init__(
        self,
        images: Tensor,
        members: Sequence[Tensor],
        classes: Sequence[int],
        shape: EpisodeShape,
        *,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        """Raises nothing: `FewShotData.sampler` has checked what it is given.

        Args:
            images: (N, C, H, W) uint8, of all classes.
            members: places of the images of each of `classes`.
        """
        self.shape = shape
        self.used: set[int] = set()
        self._images, self._mean, self._std = images, mean, std
        self._classes = torch.tensor(classes, device=images.device)
        counts = torch.tensor([len(own) for own in members], device=images.device)
        self._table = torch.nn.utils.rnn.pad_sequence(list(members), batch_first=True)
        self._absent = torch.arange(self._table.shape[1], device=images.device) >= counts[:, None]

    def draw(self, num_tasks: int, generator: torch.Generator) -> Episodes:
        """`num_tasks` tasks; classes and images are drawn without replacement within a task."""
        ways, shots = self.shape.ways, self.shape.shots
        device = self._images.device
        scores = torch.rand(num_tasks, len(self._classes), generator=generator, device=device)
        chosen_TW = scores.argsort(dim=1)[:, :ways]
        absent_TWI = self._absent[chosen_TW]
        order = torch.rand(absent_TWI.shape, generator=generator, device=device)
        place_TWI = (order + absent_TWI).argsort(dim=2)[..., : self.shape.per_class]
        index_TWI = self._table[chosen_TW].gather(2, place_TWI)
        classes_TW = self._classes[chosen_TW]
        self.used.update(classes_TW.unique().tolist())
        labels_W1 = torch.arange(ways, device=device)[:, None]
        return Episodes(
            support_x=self._read(index_TWI[..., :shots]),
            support_y=labels_W1.expand(ways, shots).flatten().expand(num_tasks, -1),
            query_x=self._read(index_TWI[..., shots:]),
            query_y=labels_W1.expand(ways, self.shape.queries).flatten().expand(num_tasks, -1),
            classes=classes_TW,
        )

    def _read(self, index_TWI: Tensor) -> Tensor:
        pixels = self._images[index_TWI.flatten(1)].float() / 255
        return (pixels - self._mean) / self._std


class FewShotData:
    """Images with labels on a device, and which classes belong to which split."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        splits: ClassSplits,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        """Normalises by mean and standard deviation of the training classes alone.

        Args:
            images: (N, C, H, W).
            labels: (N,).

        Raises:
            InputError: images and labels do not fit together, or a split names a class that has no
                image.
        """
        self.splits = splits
        _check_arrays(images, labels, splits)
        self._labels = labels
        self._images = torch.from_numpy(images).to(device)
        mean, std = _statistics(images, labels, splits.train)
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device)[:, None, None]
        self._std = torch.tensor(std, dtype=torch.float32, device=device)[:, None, None]

    def sampler(self, split: str, shape: EpisodeShape) -> EpisodeSampler:
        """Tasks of one split (`train`, `valid` or `test`).

        Raises:
            InputError: it has fewer classes than ways, or a class fewer images than a task needs.
        """
        classes = getattr(self.splits, split)
        members = [np.flatnonzero(self._labels == label) for label in classes]
        problems = []
        if len(classes) < shape.ways:
            message = f"the {split} split has only {len(classes)} classes; use at most that many"
            problems.append(Problem("episode.ways", str(shape.ways), message))
        few = [
            label for label, own in zip(classes, members, strict=True) if len(own) < shape.per_class
        ]
        if few:
            least = min(map(len, members))
            message = (
                f"{len(few)} of {len(classes)} {split} classes have fewer images, one of them "
                f"{least}; use at most {least} together"
            )
            problems.append(Problem("episode.shots + queries", str(shape.per_class), message))
        if problems:
            raise InputError(problems)
        places = [torch.from_numpy(own).to(self._images.device) for own in members]
        return EpisodeSampler(self._images, places, classes, shape, mean=self._mean, std=self._std)


def _statistics(
    images: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of pixel / 255 a channel; a class at a time, to save memory."""
    histogram = np.zeros((images.shape[1], 256))
    for label in classes:
        own = images[labels == label]
        for channel, counts in enumerate(histogram):
            counts += np.bincount(own[:, channel].ravel(), minlength=256)
    share = histogram / histogram.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.maximum(np.sqrt(variance), _MIN_STD)


def _check_arrays(
    images: NDArray[np.uint8], labels: NDArray[np.int64], splits: ClassSplits
) -> None:
    problems = []
    if images.ndim != 4 or images.dtype != np.uint8:
        found = f"{images.dtype} {images.shape}"
        problems.append(Problem("images", found, "must be uint8 (N, channels, height, width)"))
    if labels.shape != images.shape[:1]:
        message = f"one for each of {images.shape[0]} images is needed"
        problems.append(Problem("labels", str(labels.shape), message))
    known = set(np.unique(labels).tolist())
    for name in SPLITS:
        unknown = sorted(set(getattr(splits, name)) - known)
        if unknown:
            message = "has no image; leave it out"
            problems.append(Problem(f"classes of {name}", str(unknown[0]), message))
        if not getattr(splits, name):
            problems.append(Problem(f"classes of {name}", "", "are none; a split needs some"))
    if problems:
        raise InputError(problems)
