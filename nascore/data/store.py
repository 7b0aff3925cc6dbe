"""Prepared data on disk: what `prepare_data` writes and every other step reads. Imports no torch.

A folder with `dataset.json` (`DatasetInfo`), `labels.npy`, `splits.npz`, and `images.npy` as uint8
(N, C, H, W), or `files.txt` when the images are streamed from where they are.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.sources import Raw, decode_one, read
from nascore.data.splits import SplitIndices, split
from nascore.errors import InputError

VERSION = 1
_SPARE_BYTES = 64 * 2**20  # what the later steps write: study, weights, report
_STATISTICS_IMAGES = 2000  # streamed: mean and deviation are taken over this many training images


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What is known about prepared data.

    Attributes:
        mean, std: one value a channel of pixel / 255, over the training split only.
        data_sha256: over shape, images and labels in order (of the files' bytes when streamed).
        split_sha256: over the indices of the three splits.
        class_counts: images of each class, by split.
        root: folder of the files when streamed.
    """

    source: str
    classes: tuple[str, ...]
    channels: int
    size: int
    num_images: int
    num_train: int
    num_valid: int
    num_test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data_sha256: str
    split_sha256: str
    class_counts: dict[str, list[int]]
    seed: int
    streamed: bool
    root: str | None = None
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, folder: Path) -> "DatasetInfo":
        data = json.loads((folder / "dataset.json").read_text())
        if data.get("version") != VERSION:
            raise ValueError(
                f"{folder}: data set version must be {VERSION}, got {data.get('version')!r}"
            )
        for name in ("classes", "mean", "std"):
            data[name] = tuple(data[name])
        return cls(**data)


def prepare(config: DataConfig, seed: int, folder: Path) -> DatasetInfo:
    """Reads, checks, splits and writes the data; `folder` appears whole or not at all.

    Raises:
        InputError: the source or the disk does not do; every problem is listed.
    """
    raw = read(config)
    indices = split(
        raw.labels,
        num_test=raw.num_test,
        valid_fraction=config.valid_fraction,
        test_fraction=config.test_fraction,
        max_train=config.max_train,
        seed=seed,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed = (0 if raw.images is None else raw.images.nbytes) + raw.labels.nbytes + _SPARE_BYTES
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise InputError.of(
            "output folder",
            folder.parent,
            f"the disk has {free / 2**20:.0f} MB free, the prepared data and results need "
            f"{needed / 2**20:.0f} MB; free some, choose another disk, or set data.max_train",
        )
    info = _describe(raw, indices, config, seed)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(temporary, raw, indices, info)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return info


def _describe(raw: Raw, indices: SplitIndices, config: DataConfig, seed: int) -> DatasetInfo:
    mean, std = _statistics(raw, indices.train)
    splits = {"train": indices.train, "valid": indices.valid, "test": indices.test}
    split_digest = hashlib.sha256()
    for part in splits.values():
        split_digest.update(part.astype("<i8").tobytes())
    return DatasetInfo(
        source=config.source,
        classes=raw.classes,
        channels=raw.channels,
        size=raw.size,
        num_images=len(raw.labels),
        num_train=len(indices.train),
        num_valid=len(indices.valid),
        num_test=len(indices.test),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        data_sha256=_data_sha256(raw),
        split_sha256=split_digest.hexdigest(),
        class_counts={
            name: np.bincount(raw.labels[part], minlength=len(raw.classes)).tolist()
            for name, part in splits.items()
        },
        seed=seed,
        streamed=raw.images is None,
        root=None if raw.images is not None else str(raw.root),
    )


def _statistics(raw: Raw, train: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation a channel, of pixels scaled to 0..1."""
    if raw.images is not None:
        pixels = raw.images[train].reshape(-1, raw.channels)
    else:
        assert raw.root is not None
        step = max(1, len(train) // _STATISTICS_IMAGES)
        pixels = np.concatenate(
            [
                decode_one(raw.root / raw.files[i], size=raw.size, channels=raw.channels).reshape(
                    -1, raw.channels
                )
                for i in train[::step]
            ]
        )
    # Sums over a histogram: exact, and no floating-point copy of the whole data set.
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(raw.channels):
        share = np.bincount(pixels[:, channel], minlength=256) / len(pixels)
        mean = float(share @ values)
        means.append(mean)
        stds.append(max(float(share @ (values - mean) ** 2) ** 0.5, 1e-3))  # a constant channel
    return np.array(means), np.array(stds)


def _data_sha256(raw: Raw) -> str:
    digest = hashlib.sha256()
    if raw.images is not None:
        digest.update(str(raw.images.shape).encode())
        digest.update(np.ascontiguousarray(raw.images).data)
    else:
        assert raw.root is not None
        for name in raw.files:
            digest.update(name.encode())
            with open(raw.root / name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    digest.update(raw.labels.astype("<i8").tobytes())
    digest.update("\n".join(raw.classes).encode())
    return digest.hexdigest()


def _write(folder: Path, raw: Raw, indices: SplitIndices, info: DatasetInfo) -> None:
    np.save(folder / "labels.npy", raw.labels)
    np.savez(folder / "splits.npz", train=indices.train, valid=indices.valid, test=indices.test)
    if raw.images is not None:
        np.save(folder / "images.npy", np.ascontiguousarray(raw.images.transpose(0, 3, 1, 2)))
    else:
        (folder / "files.txt").write_text("\n".join(raw.files))
    (folder / "dataset.json").write_text(json.dumps(info.to_dict(), indent=2))
