"""Few-shot tasks as tensors, drawn on the device; `nascore.data.class_splits` defines a task.

Shapes: T tasks, N = ways * shots images of a support set, M = ways * queries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.data.batches import Split, Splits
from nascore.data.class_splits import SPLITS, ClassSplits, EpisodeShape, Need, unmet
from nascore.data.content import count_values, statistics_of
from nascore.errors import InputError, Problem

_Part = tuple[Tensor, NDArray[np.int64]]  # uint8 (N, C, H, W) on the device, and labels (N,)
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Episodes:
    """Several tasks as whole tensors; images are ordered by class, labels are 0..ways-1.

    Attributes:
        support_x: (T, N, C, H, W), normalised by the training classes, or pixels.
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


class EpisodeSampler:
    """Sampler of tasks from one split.

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
        mean: Tensor | None,
        std: Tensor,
    ) -> None:
        """Create a sampler of classes that `FewShotData.sampler` has checked.

        Args:
            images: (N, C, H, W) uint8, of all classes.
            members: places of the images of each of `classes`.
            mean, std: of pixel / 255; pixels 0..255 are drawn as they are where `mean` is None.
        """
        self.shape = shape
        self.used: set[int] = set()
        self._images, self._mean, self._std = images, mean, std
        self._classes = torch.tensor(classes, device=images.device)
        counts = torch.tensor([len(own) for own in members], device=images.device)
        self._table = torch.nn.utils.rnn.pad_sequence(list(members), batch_first=True)
        self._absent = torch.arange(self._table.shape[1], device=images.device) >= counts[:, None]

    def draw(self, num_tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `num_tasks` tasks; classes and images without replacement within a task."""
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
        pixels = self._images[index_TWI.flatten(1)].float()
        return pixels if self._mean is None else (pixels / 255 - self._mean) / self._std


class FewShotData:
    """Images with labels on a device, and the classes of each split.

    The images of a split are looked at when its first sampler is made, not before: what never asks
    for a sampler of test classes has never touched them.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        splits: ClassSplits,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        """Compute mean and standard deviation from the training classes alone.

        Args:
            images: (N, C, H, W).
            labels: (N,).

        Raises:
            InputError: images and labels do not fit together, or a split names a class that has no
                image.
        """
        _check_arrays(images, labels, splits)
        on_device = torch.from_numpy(images).to(device)
        mean, std = _statistics(images, labels, splits.train)
        self._set(splits, dict.fromkeys(SPLITS, lambda: (on_device, labels)), mean, std, device)

    @classmethod
    def of(cls, data: Splits) -> Self:
        """Return the few-shot data of prepared data, on its device.

        Raises:
            InputError: it is split by images, so that the splits share their classes.
        """
        if data.info.class_splits is None:
            message = "train, valid and test have the same classes; few-shot tasks need `class`"
            raise InputError.of("data.split_by", "image", message)
        few_shot = cls.__new__(cls)
        mean, std = (np.array(values) for values in (data.info.mean, data.info.std))
        parts = {name: lambda name=name: _read(getattr(data, name)) for name in SPLITS}
        few_shot._set(data.info.class_splits, parts, mean, std, data.train.device)
        return few_shot

    def _set(
        self,
        splits: ClassSplits,
        parts: Mapping[str, Callable[[], _Part]],
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
        device: str | torch.device,
    ) -> None:
        self.splits = splits
        self._parts = parts
        self._seen: dict[str, _Part] = {}
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device)[:, None, None]
        self._std = torch.tensor(std, dtype=torch.float32, device=device)[:, None, None]

    def sampler(
        self, split: str, shape: EpisodeShape, *, as_pixels: bool = False
    ) -> EpisodeSampler:
        """Return a sampler of tasks of `train`, `valid` or `test`.

        Args:
            as_pixels: 0..255, and not normalised.

        Raises:
            InputError: it has fewer classes than ways, or a class fewer images than a task needs.
        """
        if split not in self._seen:
            self._seen[split] = self._parts[split]()
        images, labels = self._seen[split]
        classes = self.splits.of(split)
        counts = np.bincount(labels, minlength=max(classes) + 1).tolist()
        problems = unmet([Need(shape, (split,))], counts, self.splits)
        if problems:
            raise InputError(problems)
        places = [
            torch.from_numpy(np.flatnonzero(labels == label)).to(images.device) for label in classes
        ]
        mean = None if as_pixels else self._mean
        return EpisodeSampler(images, places, classes, shape, mean=mean, std=self._std)


def _read(split: Split) -> _Part:
    return torch.cat(list(split.pixel_batches(_CHUNK))), split.labels.cpu().numpy()


def _statistics(
    images: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of pixel / 255 by channel; a class at a time of memory."""
    histogram = np.zeros((images.shape[1], 256), np.int64)
    for label in classes:
        histogram += count_values(images[labels == label].transpose(0, 2, 3, 1))
    return statistics_of(histogram)


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
        unknown = sorted(set(splits.of(name)) - known)
        if unknown:
            message = "has no image; leave it out"
            problems.append(Problem(f"classes of {name}", str(unknown[0]), message))
        if not splits.of(name):
            problems.append(Problem(f"classes of {name}", "", "are none; a split needs some"))
    if problems:
        raise InputError(problems)
