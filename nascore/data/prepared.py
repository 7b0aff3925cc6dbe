"""Prepared data on disk, which `prepare_data` writes and every other step reads. Imports no torch.

A folder with `dataset.json` (`DatasetInfo`), `labels.npy`, `splits.npz`, and `images.npy` as uint8
(N, C, H, W), or `files.txt` when the images are streamed: POSIX paths relative to
`DatasetInfo.root`, one a line, in the order of the labels, each followed by a tab and the version
of the file.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nascore.config import DataConfig
from nascore.data.cache import DecodedCache, cache_folder
from nascore.data.class_splits import ClassSplits, Need
from nascore.data.content import statistics_of
from nascore.data.file_access import Remote, to_lines
from nascore.data.findings import Finding, Findings
from nascore.data.inspection import Inspected, inspect
from nascore.data.mapped import chunks
from nascore.data.pixels import WHITE
from nascore.data.raw_dataset import Raw
from nascore.data.splits import SplitIndices
from nascore.errors import InputError
from nascore.stored import read_stored

VERSION = 1
_SPARE_BYTES = 64 * 2**20  # what the later steps write: study, weights, report
_CHUNK = 4096  # images copied at a time: a second copy of all would double the memory


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """Description of prepared data.

    Attributes:
        source: `data.source` as it was given.
        num_images: images of the source; with `data.max_train` the splits have fewer.
        mean, std: one value a channel of pixel / 255, over the training split only.
        data_sha256: hash of shape, pixels, labels and class names in order, whatever the files are.
        split_sha256: hash of the indices of the three splits.
        class_counts: images of each class, by split.
        root: folder or URI of streamed files, the same on every machine that trains.
        class_splits: places in `classes` of those of each split; None where splits share their
            classes.
        groups: group of each class, where the source has groups.
        background: colour behind transparent pixels of files.
        warnings: findings about left out, converted or suspicious images, as `Finding.to_dict`.
        decoded_cache_mb: disk space for the decoded images of a streamed data set.
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
    class_splits: ClassSplits | None = None
    groups: tuple[str, ...] | None = None
    version: int = VERSION
    background: tuple[int, int, int] = WHITE
    warnings: tuple[dict[str, Any], ...] = ()
    decoded_cache_mb: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "DatasetInfo":
        """Read what `to_dict` returned.

        Raises:
            ValueError: Another version wrote it.
        """
        return read_stored(cls, data, version=VERSION, name="data set")

    def names_of(self, split: str) -> tuple[str, ...]:
        """Return the classes of one split."""
        if self.class_splits is None:
            return self.classes
        return tuple(self.classes[label] for label in self.class_splits.of(split))

    @classmethod
    def load(cls, folder: Path) -> "DatasetInfo":
        """Read the description from the folder of prepared data."""
        return cls.from_dict(json.loads((folder / "dataset.json").read_text()))


def prepare(
    config: DataConfig,
    seed: int,
    folder: Path,
    *,
    min_free_bytes: int = _SPARE_BYTES,
    remote: Remote | None = None,
    needs: Sequence[Need] = (),
) -> DatasetInfo:
    """Read, check, split and write the data; `folder` appears whole or not at all.

    An earlier data set in `folder` is replaced; a folder with other content is refused.

    Args:
        min_free_bytes: disk space that must stay free for later steps.
        remote: opens `s3://` sources.
        needs: the tasks that will be drawn, where the splits have different classes.

    Raises:
        InputError: The data or the folder cannot be used; all problems are listed.
    """
    _check_folder(folder)
    findings = Findings()
    cache_bytes = config.decoded_cache_mb * 2**20
    found = inspect(
        config,
        seed,
        findings,
        remote=remote,
        needs=needs,
        before_scan=lambda raw: _check_disk(raw, folder, min_free_bytes),
        cache=DecodedCache(cache_folder(), cache_bytes) if cache_bytes else None,
    )
    findings.refuse()
    info = _describe(found, config=config, seed=seed, warnings=findings.warnings)
    raw, indices = found.raw, found.indices
    try:
        _write_whole(folder, raw, indices, info)
    except OSError as error:
        raise InputError.of(
            "output folder", folder, f"cannot be written ({error}); choose another place"
        ) from error
    return info


# --- where it is written --------------------------------------------------------------------


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        if (folder / "dataset.json").exists() or not any(folder.iterdir()):
            return
        message = "holds something other than a data set; it is left alone, choose an empty folder"
    elif folder.exists():
        message = "is a file; choose a folder"
    else:
        return
    raise InputError.of("output folder", folder, message)


def _check_disk(raw: Raw, folder: Path, min_free_bytes: int) -> None:
    stored = sum(map(len, to_lines(raw.entries))) if raw.images is None else raw.images.nbytes
    needed = stored + 2 * raw.labels.nbytes + min_free_bytes  # labels and indices
    existing = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError.of(
            "output folder",
            folder,
            f"the disk has {free / 2**20:.0f} MB free, the prepared data and the results need "
            f"{needed / 2**20:.0f} MB; free some, choose another disk, or make the images smaller "
            "(data.image_size)",
        )


def _write_whole(folder: Path, raw: Raw, indices: SplitIndices, info: DatasetInfo) -> None:
    """Write under another name first, so that no reader sees half a data set."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    try:
        _write(temporary, raw, indices, info)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write(folder: Path, raw: Raw, indices: SplitIndices, info: DatasetInfo) -> None:
    np.save(folder / "labels.npy", raw.labels)
    np.savez(folder / "splits.npz", train=indices.train, valid=indices.valid, test=indices.test)
    if raw.images is None:
        (folder / "files.txt").write_bytes(b"\n".join(to_lines(raw.entries)))
    else:
        count, height, width, channels = raw.images.shape
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, channels, height, width)}
        with open(folder / "images.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks(raw.images, _CHUNK):
                file.write(np.ascontiguousarray(chunk.transpose(0, 3, 1, 2)).data)
    (folder / "dataset.json").write_text(json.dumps(info.to_dict(), indent=2))


# --- what is known about it -----------------------------------------------------------------


def _describe(
    found: Inspected, *, config: DataConfig, seed: int, warnings: Sequence[Finding]
) -> DatasetInfo:
    raw, indices = found.raw, found.indices
    mean, std = statistics_of(found.histogram)
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
        data_sha256=found.data_sha256,
        split_sha256=split_digest.hexdigest(),
        class_counts=found.class_counts(),
        seed=seed,
        streamed=raw.images is None,
        root=None if raw.files is None else raw.files.root,
        class_splits=found.class_splits,
        groups=raw.groups,
        background=raw.background,
        warnings=tuple(warning.to_dict() for warning in warnings),
        decoded_cache_mb=config.decoded_cache_mb if raw.images is None else 0,
    )
