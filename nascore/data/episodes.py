"""Few-shot tasks as tensors, drawn on the device; `nascore.data.class_splits` defines a task.

Shapes: T tasks, N = ways * shots images of a support set, M = ways * queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.data.batches import Split, Splits
from nascore.data.class_splits import EpisodeShape, Need, unmet
from nascore.errors import InputError

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
        used: every class that a task was drawn from; shows that a run has drawn no test class.
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
            mean, std: mean and standard deviation of pixel / 255; without `mean` pixels are not
                normalised.
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
    """The classes and images of each split of prepared data, on its device.

    The images of a split are read when its first sampler is made: code that never asks for a
    sampler of test classes has never read them.

    Args:
        data: prepared data whose splits have different classes.

    Raises:
        InputError: It is split by images, so that the splits share their classes.
    """

    def __init__(self, data: Splits) -> None:
        if data.info.class_splits is None:
            message = "train, valid and test have the same classes; few-shot tasks need `class`"
            raise InputError.of("data.split_by", "image", message)
        self.splits = data.info.class_splits
        self._data = data
        self._read: dict[str, tuple[Tensor, NDArray[np.int64]]] = {}
        self._mean, self._std = (
            torch.tensor(values, device=data.train.device)[:, None, None]
            for values in (data.info.mean, data.info.std)
        )

    def sampler(
        self, split: str, shape: EpisodeShape, *, as_pixels: bool = False
    ) -> EpisodeSampler:
        """Return a sampler of tasks of `train`, `valid` or `test`.

        Args:
            split: name of the split.
            shape: size of a task.
            as_pixels: whether images are pixels 0..255 instead of normalised values.

        Raises:
            InputError: The split has fewer classes than ways, or a class too few images.
        """
        if split not in self._read:
            own: Split = getattr(self._data, split)
            pixels = torch.cat(list(own.pixel_batches(_CHUNK)))
            self._read[split] = pixels, own.labels.cpu().numpy()
        images, labels = self._read[split]
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
