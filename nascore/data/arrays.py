"""Sources of arrays: x_train, y_train and optionally x_valid, y_valid, x_test, y_test, classes.

With `data.split_by=class`, `groups` may name the group of each class in the order of the labels,
and x_valid, y_valid, x_test and y_test define the classes of each split; without x_valid, test
images are treated like all others.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.array_files import LOADERS, Arrays
from nascore.data.array_labels import check_labels, merge_labels
from nascore.data.array_pixels import as_images
from nascore.data.class_splits import SPLITS
from nascore.data.findings import Findings, finding
from nascore.data.listing import check_class_names
from nascore.data.raw_dataset import Raw, check_classes, from_arrays
from nascore.errors import Problem


def read_arrays(kind: str) -> Callable[[DataConfig, str, Findings], Raw]:
    """Return the reader of one kind of file.

    Args:
        kind: `npz`, `npy` or `safetensors`.
    """

    def read(config: DataConfig, path: str, findings: Findings) -> Raw:
        arrays, problems = LOADERS[kind](Path(path).expanduser(), config)
        findings.problems += problems
        return from_named(arrays, config, findings)

    return read


def from_named(arrays: Arrays, config: DataConfig, findings: Findings) -> Raw:
    """Return images from x of shape (N, H, W), (N, H, W, C) or (N, C, H, W) and labels from y of
    shape (N,), (N, 1) or one-hot (N, K).

    Labels may be any whole numbers or text: they are mapped to 0..K-1 in ascending order. `classes`
    names them.

    Raises:
        InputError: The arrays have problems; all are listed.
    """
    parts = _parts(arrays)
    missing = _missing(arrays, parts, config)
    findings.problems += missing
    images = {p: x for p in parts if (x := arrays.get(f"x_{p}")) is not None}
    labels = {p: y for p in parts if (y := arrays.get(f"y_{p}")) is not None}
    pixels = as_images(images, config, findings)
    sizes = {part: len(x) for part, x in images.items() if x.ndim}
    whole = check_labels(labels, sizes, config, findings, is_complete=not missing)
    if whole is None or len(whole) < len(parts):
        findings.refuse()
    assert whole is not None
    merged = merge_labels(whole, arrays.get("classes"), config, findings)
    by_class = config.split_by == "class"
    num_test = 0 if by_class else merged.counts.get("test", 0)
    num_valid = 0 if by_class else merged.counts.get("valid", 0)
    findings.problems += check_classes(
        merged.numbers, merged.classes, num_test=num_test, num_valid=num_valid, config=config
    )
    findings.problems += check_class_names(merged.classes, config)
    groups = _groups(arrays.get("groups"), merged.classes, findings.problems, config)
    if pixels is None:
        findings.refuse()
    findings.checkpoint()
    assert pixels is not None
    raw = from_arrays(
        np.concatenate(list(pixels.values())),
        merged.numbers,
        classes=merged.classes,
        num_test=num_test,
        config=config,
    )
    splits = merged.splits() if by_class and "valid" in parts else None
    return replace(raw, num_valid=num_valid, groups=groups, class_splits=splits)


def _parts(arrays: Arrays) -> tuple[str, ...]:
    return tuple(split for split in SPLITS if split == "train" or _has(arrays, split))


def _missing(arrays: Arrays, parts: tuple[str, ...], config: DataConfig) -> list[Problem]:
    if config.split_by == "class" and "valid" in parts:  # then all three bring classes
        parts = SPLITS
        own = "classes for each split, x_valid, y_valid,"
    else:
        own = "your own test split,"
    return [
        finding(
            config,
            "arrays",
            f"has no array {axis}_{part}; write x_train and y_train and, to bring {own} x_test "
            "and y_test",
        )
        for part in parts
        for axis in "xy"
        if f"{axis}_{part}" not in arrays
    ]


def _has(arrays: Arrays, part: str) -> bool:
    return f"x_{part}" in arrays or f"y_{part}" in arrays


def _groups(
    groups: NDArray[Any] | None, classes: list[str], problems: list[Problem], config: DataConfig
) -> tuple[str, ...] | None:
    if groups is None:
        return None
    if groups.shape != (len(classes),):
        message = (
            f"groups must have shape ({len(classes)},), one for each class in the order of the "
            f"labels, got {groups.shape}"
        )
        problems.append(finding(config, "arrays", message))
        return None
    return tuple(str(group) for group in groups.tolist())
