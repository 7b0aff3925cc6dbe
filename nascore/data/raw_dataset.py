"""Labelled images as a source provides them, and checks that apply to every source."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nascore.config import DataConfig
from nascore.data.class_splits import ClassSplits
from nascore.data.file_access import FileEntry, Files
from nascore.data.findings import SOURCE, Finding, finding
from nascore.data.pixels import WHITE, PixelFormat
from nascore.errors import Problem

_MAX_LISTED = 10  # problems of one kind in one message
_MIN_OF_SPLITS = (3, "train, valid and test take one each")
_MIN_OF_TASK = (2, "one to learn from and one to be evaluated on")


@dataclass(frozen=True)
class Raw:
    """Labelled images of a source.

    Attributes:
        images: uint8 (N, H, W, C), or None when they are streamed.
        entries: the files, in order, when streamed; else empty.
        files: access to them when streamed; else None.
        labels: int64 (N,), values 0..len(classes)-1.
        classes: names, by label.
        num_test: the last `num_test` images are the source's own test split; 0 when it has none.
        num_valid: those before them are its own validation split; 0 when it has none.
        channels: 1 or 3; any number for npz.
        size: height and width in pixels.
        groups: the group of each class, such as its alphabet; None where there are none.
        class_splits: classes of the source's own splits; None where it has none.
        image_groups: int64 (N,), number of the group of each image, such as its patient; groups
            are not divided among splits. None where there are none.
        background: colour behind transparent pixels of files.
        readable: bool (N,), which images could be read; the others, which a problem names, are
            black. None where all could.
        names: file names of images in memory; empty where they have none.
    """

    images: NDArray[np.uint8] | None
    entries: tuple[FileEntry, ...]
    files: Files | None
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    num_test: int
    channels: int
    size: int
    groups: tuple[str, ...] | None = None
    class_splits: ClassSplits | None = None
    num_valid: int = 0
    image_groups: NDArray[np.int64] | None = None
    background: tuple[int, int, int] = WHITE
    readable: NDArray[np.bool_] | None = None
    names: tuple[str, ...] = ()

    @property
    def num_train(self) -> int:
        """Number of images outside the source's own validation and test splits."""
        return len(self.labels) - self.num_valid - self.num_test

    def pixel_format(self, config: DataConfig) -> PixelFormat:
        """Return the format to which its files are decoded."""
        return PixelFormat(self.size, self.channels, self.background)

    def name_of(self, place: int) -> str:
        """Return the name of an image in messages."""
        if self.names or self.entries:
            return self.names[place] if self.names else self.entries[place].name
        return f"image {place}"


def from_arrays(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    classes: Sequence[str],
    num_test: int,
    config: DataConfig,
) -> Raw:
    """Return images (N, H, W, C) in memory, resized where `config.image_size` is set."""
    size = config.image_size
    if size is not None and images.shape[1:3] != (size, size):
        images = np.stack([_resize(image, size) for image in images])
    return Raw(
        images=images,
        entries=(),
        files=None,
        labels=labels,
        classes=tuple(classes),
        num_test=num_test,
        channels=images.shape[3],
        size=images.shape[1],
    )


def _resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    # Plane by plane: Pillow has no mode for two channels, or for more than four.
    planes = [
        Image.fromarray(image[..., channel]).resize((size, size), Image.Resampling.BILINEAR)
        for channel in range(image.shape[-1])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def check_classes(
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    num_test: int,
    config: DataConfig,
    num_valid: int = 0,
) -> list[Problem]:
    """Return problems unless there are two classes, each with enough images for every split."""
    problems: list[Problem] = []
    if len(classes) < 2:
        message = f"needs at least 2 classes, got {list(classes)}"
        problems.append(finding(config, "too-few-classes", message))
    by_class = config.split_by == "class"
    least, why = _MIN_OF_TASK if by_class else _MIN_OF_SPLITS
    if num_valid and not by_class:
        least, why = (1, "to train on") if num_test else (2, "train and test take one each")
    kind = "" if by_class else "training "
    counts = np.bincount(labels[: len(labels) - num_test - num_valid], minlength=len(classes))
    small: list[Problem] = [
        finding(
            config,
            "too-few-images",
            f"class {classes[label]!r} has {counts[label]} {kind}images, needs at least {least} "
            f"({why}); add images or leave the class out",
            [classes[label]],
        )
        for label in np.flatnonzero(counts < least).tolist()
    ]
    return problems + shortened(small, config)


def check_square(height: int, width: int, config: DataConfig) -> list[Problem]:
    """Return a problem for images that are not square, as networks here need them."""
    if height == width or config.image_size is not None:
        return []
    message = (
        f"images are {width} wide and {height} high, networks here read square ones; "
        "set data.image_size to resize them"
    )
    return [finding(config, "image-size", message)]


def shortened(problems: list[Problem], config: DataConfig) -> list[Problem]:
    """Return the first problems of one kind, and the number of others."""
    rest = len(problems) - _MAX_LISTED
    if rest <= 0:
        return problems
    last = problems[-1]
    kind = last.kind if isinstance(last, Finding) else SOURCE
    more = finding(config, kind, f"and {rest} more of this kind", count=rest)
    return [*problems[:_MAX_LISTED], more]
