"""Profile of a data set by class and pixel value shares, and the drift of another from it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.data.batches import Splits
from nascore.stored import read_stored

VERSION = 1
NUM_BINS = 32
_MOST_IMAGES = 20_000  # the shares of more would not change
_BATCH_SIZE = 512
_FLOOR = 1e-4  # share of what was never seen: a new value is a finite drift


@dataclass(frozen=True, slots=True)
class DataProfile:
    """Fractions of classes and pixel values; each list sums to 1.

    Attributes:
        class_shares: fractions of the training images, in the order of `classes`.
        value_shares: fractions of pixel values 0..255 in `NUM_BINS` equal bins, a list for each
            channel.
    """

    classes: tuple[str, ...]
    channels: int
    size: int
    num_images: int
    class_shares: tuple[float, ...]
    value_shares: tuple[tuple[float, ...], ...]
    data_sha256: str
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "DataProfile":
        """Read what `to_dict` returned.

        Raises:
            ValueError: Another version wrote it.
        """
        return read_stored(cls, data, version=VERSION, name="data profile")


@dataclass(frozen=True, slots=True)
class Drift:
    """Distance of new data from old data, as population stability indices.

    Attributes:
        classes: index of the class fractions.
        values: largest index of the pixel values over the channels.
        schema: differences that prevent a comparison; empty when there are none.
    """

    classes: float
    values: float
    schema: tuple[str, ...] = ()

    @property
    def largest(self) -> float:
        """The larger of both indices."""
        return max(self.classes, self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return asdict(self)


def profile(splits: Splits) -> DataProfile:
    """Return the profile of the training split; of a large one, of images spread over all of it."""
    info, train = splits.info, splits.train
    counts = np.zeros((info.channels, NUM_BINS))
    stride = max(1, math.ceil(train.num_images / _MOST_IMAGES))
    for x_BCHW in train.pixel_batches(_BATCH_SIZE, every=stride):
        for channel, values in enumerate(x_BCHW.transpose(0, 1).reshape(info.channels, -1)):
            binned = (values.cpu().numpy().astype(np.int64) * NUM_BINS) // 256
            counts[channel] += np.bincount(binned, minlength=NUM_BINS)
    labels = np.bincount(train.labels.cpu().numpy(), minlength=len(info.classes))
    return DataProfile(
        classes=info.classes,
        channels=info.channels,
        size=info.size,
        num_images=train.num_images,
        class_shares=tuple((labels / labels.sum()).tolist()),
        value_shares=tuple(tuple(row) for row in (counts / counts.sum(1, keepdims=True)).tolist()),
        data_sha256=info.data_sha256,
    )


def drift(old: DataProfile, new: DataProfile) -> Drift:
    """Return the drift from `old` to `new`.

    The population stability index of shares p and q is sum (p - q) ln(p / q): 0 for equal ones;
    below 0.1 is commonly read as no change and above 0.25 as a large one (Siddiqi, Credit Risk
    Scorecards, 2006). Where the schemas differ the shares cannot be compared, and both are inf.
    """
    schema = tuple(
        f"{name} was {before}, is {now}"
        for name, before, now in (
            ("number of channels", old.channels, new.channels),
            ("image size", old.size, new.size),
            ("classes", _shown(old.classes), _shown(new.classes)),
        )
        if before != now
    )
    if schema:
        return Drift(math.inf, math.inf, schema)
    values = max(map(stability, old.value_shares, new.value_shares))
    return Drift(stability(old.class_shares, new.class_shares), values)


def stability(old: Sequence[float], new: Sequence[float]) -> float:
    """Return the population stability index of two lists of fractions."""
    p, q = _floored(new), _floored(old)
    return float(np.sum((p - q) * np.log(p / q)))


def _floored(shares: Sequence[float]) -> NDArray[np.float64]:
    raised = np.maximum(np.asarray(shares, dtype=np.float64), _FLOOR)
    return np.asarray(raised / raised.sum())


def _shown(classes: Sequence[str]) -> str:
    return f"{len(classes)}: {', '.join(classes)}"
