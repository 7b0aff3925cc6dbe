"""Images in Parquet files, as the Hugging Face hub stores them: encoded files in a column.

One file, or a folder of files whose names begin with the split (`train-00000-of-00002.parquet`).
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nascore.config import DataConfig
from nascore.data.array_files import Arrays, canonical
from nascore.data.arrays import from_named
from nascore.data.class_splits import SPLITS
from nascore.data.file_access import FileEntry
from nascore.data.findings import KEY, Findings, finding, join_first, refusal
from nascore.data.image_folders import read_listed
from nascore.data.listing import Listing, check_class_names
from nascore.data.raw_dataset import Raw
from nascore.data.split_names import name_words, split_of
from nascore.data.tables import load_pyarrow

_KIND = "parquet"


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one split: encoded images or arrays, and labels."""

    split: str
    images: list[Any]
    names: list[str]
    labels: list[str]


class _InMemory:
    """Encoded images by name as `nascore.data.file_access.Files`."""

    num_threads = 1

    def __init__(self, root: str, content: dict[str, bytes]) -> None:
        self.root, self._content = root, content

    def entries(self) -> Iterator[FileEntry]:
        """Return all files."""
        return map(FileEntry, self._content)

    def open(self, entry: FileEntry) -> BinaryIO:
        """Open an encoded image."""
        return io.BytesIO(self._content[entry.name])


def read_parquet(config: DataConfig, path: str, findings: Findings) -> Raw:
    """Read Parquet files: encoded images like files, nested lists of numbers like arrays.

    Raises:
        InputError: The files have problems; all are listed.
    """
    root = Path(path).expanduser()
    files = sorted(root.rglob("*.parquet")) if root.is_dir() else [root]
    if not files or not all(file.is_file() for file in files):
        raise refusal(config, _KIND, f"there is no Parquet file {str(root)!r}")
    parquet = load_pyarrow(KEY, config.source)
    parts = [_read(parquet, file, len(files) > 1, config) for file in files]
    by_split = {s: [part for part in parts if part.split == s] for s in SPLITS}
    if not by_split["train"]:
        message = f"has no file for train among {join_first(file.name for file in files)}"
        raise refusal(config, _KIND, message)
    if all(isinstance(image, bytes) for part in parts for image in part.images):
        return _decoded(root, by_split, config, findings)
    return from_named(_arrays(by_split, config), config, findings)


def _read(parquet: Any, file: Path, is_one_of_many: bool, config: DataConfig) -> _Part:
    try:
        table = parquet.read_table(file)
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        message = f"{file.name} is no whole Parquet file ({error}); write it again"
        raise refusal(config, _KIND, message) from error
    names = table.column_names
    image = next((name for name in names if (canonical(name) or "").startswith("x")), None)
    label = config.label_column or next(
        (name for name in names if (canonical(name) or "").startswith("y") or name == "class"), None
    )
    if image is None or label is None or label not in names:
        lacking = "images" if image is None else "labels (set data.label_column)"
        message = f"{file.name} has no column of {lacking}; it has {join_first(names)}"
        raise refusal(config, _KIND, message)
    cells = table[image].to_pylist()
    images = [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]
    paths = [str(cell.get("path") or "") if isinstance(cell, dict) else "" for cell in cells]
    known = _names_of_labels(table.schema.metadata or {}, label)
    labels = [
        known[value] if known and isinstance(value, int) and 0 <= value < len(known) else value
        for value in table[label].to_pylist()
    ]
    split = split_of(name_words(file.stem)[0]) if is_one_of_many and name_words(file.stem) else None
    stem = f"{file.stem}/"
    unique = len(set(paths)) == len(paths) and all(paths)
    return _Part(
        split or "train",
        images,
        [stem + (paths[row] if unique else f"{row:08}") for row in range(len(images))],
        ["" if value is None else str(value) for value in labels],
    )


def _names_of_labels(metadata: dict[bytes, bytes], column: str) -> list[str]:
    """Return the names of the classes, which Hugging Face writes into the schema."""
    try:
        info = json.loads(metadata.get(b"huggingface", b"{}"))
        names = info["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names]


def _decoded(
    root: Path, by_split: dict[str, list[_Part]], config: DataConfig, findings: Findings
) -> Raw:
    content: dict[str, bytes] = {}
    rows: list[tuple[str, str, str]] = []  # split, label, name
    for split, parts in by_split.items():
        for part in parts:
            content |= dict(zip(part.names, part.images, strict=True))
            rows += [(split, *pair) for pair in zip(part.labels, part.names, strict=True)]
    unlabelled = [name for _, label, name in rows if label in ("", "-1")]
    if unlabelled:
        message = "{count} images have no label: {examples}; label or remove them"
        findings.problems.append(finding(config, "unlabelled-rows", message, unlabelled))
    rows.sort(key=lambda row: (SPLITS.index(row[0]), *row[1:]))
    entries = [FileEntry(name) for *_, name in rows]
    labels = [label for _, label, _ in rows]
    findings.problems += check_class_names(labels, config)
    counts = {split: sum(row[0] == split for row in rows) for split in SPLITS}
    listing = Listing.of(entries, labels, num_test=counts["test"], num_valid=counts["valid"])
    raw = read_listed(config, _InMemory(str(root), content), listing, findings)
    if raw.images is None:
        message = (
            "is larger than data.memory_limit_mb when decoded, and Parquet cannot be streamed; "
            "write the images into a folder or a .zip, or raise data.memory_limit_mb"
        )
        raise refusal(config, _KIND, message)
    return raw


def _arrays(by_split: dict[str, list[_Part]], config: DataConfig) -> Arrays:
    arrays: Arrays = {}
    for split, parts in by_split.items():
        if not parts:
            continue
        try:
            arrays[f"x_{split}"] = np.array(_joined([part.images for part in parts]))
        except ValueError as error:
            message = f"the images of {split} are lists of different lengths ({error})"
            raise refusal(config, _KIND, message) from error
        arrays[f"y_{split}"] = np.array(_joined([part.labels for part in parts]))
    return arrays


def _joined(lists: Sequence[list[Any]]) -> list[Any]:
    return [item for items in lists for item in items]
