"""Images from a NumPy archive: x_train, y_train and, when there, x_test, y_test, classes.

Where the splits shall have different classes, `groups` may name the group of each class, in the
order of the labels. With x_valid, y_valid, x_test and y_test the archive brings classes for each
split; without x_valid, test images are images like others.
"""

import struct
import zipfile
import zlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.classes import SPLITS, ClassSplits
from nascore.data.findings import Findings
from nascore.data.raw import (
    Raw,
    check_classes,
    check_square,
    few,
    from_arrays,
    problem,
    refuse,
)
from nascore.errors import InputError, Problem

_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")
_OF_CLASSES = ("x_valid", "y_valid", "groups")
# What numpy, zipfile and zlib raise on files that are damaged, encrypted or not archives at all.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


def read_npz(config: DataConfig, path: str, findings: Findings) -> Raw:
    """Reads x (N, H, W) or (N, H, W, C) with whole numbers 0..255, and y (N,) with whole numbers.

    Labels may be any whole numbers: they are mapped to 0..K-1 in ascending order. `classes` names
    them when it has K entries.

    Raises:
        InputError: with every problem of the file.
    """
    arrays, own = _load(Path(path).expanduser(), config)
    problems: list[Problem] = [*findings.problems, *own]
    parts = _parts(arrays)
    problems += _missing(arrays, parts, config)
    images = {p: x for p in parts if (x := arrays.get(f"x_{p}")) is not None}
    labels = {p: y for p in parts if (y := arrays.get(f"y_{p}")) is not None}
    image_problems = _check_images(images, config)
    label_problems = _check_labels(labels, images, config)
    problems += image_problems + label_problems
    groups = None
    if not label_problems and len(labels) == len(parts):
        merged, classes = _merge_labels(labels, arrays.get("classes"))
        has_own = "test" in labels and config.split_by != "class"
        num_test = len(labels["test"]) if has_own else 0
        problems += check_classes(merged, classes, num_test=num_test, config=config)
        groups = _groups(arrays.get("groups"), classes, problems, config)
    refuse(problems)
    x = np.concatenate([x if x.ndim == 4 else x[..., None] for x in images.values()])
    raw = from_arrays(
        x.astype(np.uint8, copy=False), merged, classes=classes, num_test=num_test, config=config
    )
    splits = _class_splits(labels) if "valid" in labels else None
    return replace(raw, groups=groups, class_splits=splits)


def _parts(arrays: dict[str, NDArray[Any] | None]) -> tuple[str, ...]:
    """Validation images are only loaded where they are classes of their own."""
    if _has(arrays, "valid"):
        return SPLITS
    return ("train", "test") if _has(arrays, "test") else ("train",)


def _missing(
    arrays: dict[str, NDArray[Any] | None], parts: tuple[str, ...], config: DataConfig
) -> list[Problem]:
    own = (
        "classes for each split, x_valid, y_valid," if "valid" in parts else "your own test split,"
    )
    return [
        problem(
            config,
            f"has no array {axis}_{part}; write x_train and y_train and, to bring {own} x_test "
            "and y_test",
        )
        for part in parts
        for axis in "xy"
        if f"{axis}_{part}" not in arrays
    ]


def _has(arrays: dict[str, NDArray[Any] | None], part: str) -> bool:
    return f"x_{part}" in arrays or f"y_{part}" in arrays


def _load(path: Path, config: DataConfig) -> tuple[dict[str, NDArray[Any] | None], list[Problem]]:
    """The arrays by name (None for one that cannot be read), and what is wrong with those."""
    arrays: dict[str, NDArray[Any] | None] = {}
    problems: list[Problem] = []
    try:
        if not path.is_file():
            raise _refusal(config, f"there is no file {str(path)!r}; give npz:PATH of an .npz file")
        if path.stat().st_size == 0:
            raise _refusal(config, "the file is empty; write it again")
        with open(path, "rb") as raw:  # numpy leaves a file open that is no archive
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise _refusal(config, "holds a single array; write it with numpy.savez")
            wanted = _ARRAYS + (_OF_CLASSES if config.split_by == "class" else ())
            for name in (name for name in wanted if name in file.files):
                try:
                    arrays[name] = file[name]
                except _UNREADABLE as error:
                    arrays[name] = None
                    problems.append(problem(config, f"array {name} {_reason(error)}"))
    except PermissionError as error:
        raise _refusal(config, "may not be read; check its permissions and owner") from error
    except _UNREADABLE as error:
        raise _refusal(config, f"is not a whole .npz file: it {_reason(error)}") from error
    return arrays, problems


def _refusal(config: DataConfig, message: str) -> InputError:
    return InputError([problem(config, message)])


def _reason(error: Exception) -> str:
    if "Object arrays" in str(error):
        return "holds Python objects, which can run code when read; save plain numbers"
    if isinstance(error, MemoryError):
        return "does not fit in memory; use an imagefolder, which is streamed"
    if "allow_pickle" in str(error):
        return "is not in NumPy's format; write it with numpy.savez"
    return f"is damaged or cut short ({error}); copy or write it again"


# --- images ---------------------------------------------------------------------------------


def _check_images(images: dict[str, NDArray[Any]], config: DataConfig) -> list[Problem]:
    problems: list[Problem] = []
    for part, x in images.items():
        problems += _check_array(x, f"x_{part}", config)
    shapes = {part: x.shape[1:] for part, x in images.items()}
    if problems or not shapes:
        return problems
    first, *others = shapes
    problems += [
        problem(
            config,
            f"x_{first} has images of shape {shapes[first]}, x_{other} of {shapes[other]}; they "
            "must be the same",
        )
        for other in others
        if shapes[other] != shapes[first]
    ]
    height, width = next(iter(shapes.values()))[:2]
    return problems + check_square(height, width, config)


def _check_array(x: NDArray[Any], name: str, config: DataConfig) -> list[Problem]:
    problems = []
    if x.ndim not in (3, 4) or 0 in x.shape:
        problems.append(
            problem(config, f"{name} must have shape (N, H, W) or (N, H, W, C), got {x.shape}")
        )
    elif x.ndim == 4 and x.shape[1] < x.shape[2] == x.shape[3]:
        problems.append(
            problem(
                config,
                f"{name} has shape {x.shape}, which looks like (N, C, H, W); write "
                f"{name}.transpose(0, 2, 3, 1)",
            )
        )
    return problems + _check_values(x, name, config)


def _check_values(x: NDArray[Any], name: str, config: DataConfig) -> list[Problem]:
    problems = []
    if x.dtype.kind in "iu":
        if x.dtype != np.uint8 and x.size and (x.min() < 0 or x.max() > 255):
            problems.append(
                problem(config, f"{name} must lie in 0..255, got {x.min()}..{x.max()}; scale it")
            )
        return problems
    if x.dtype.kind == "f" and x.ndim:
        # An image at a time: a mask of the whole array would double the memory.
        bad = [i for i, image in enumerate(x) if not np.isfinite(image).all()]
        if bad:
            problems.append(
                problem(
                    config,
                    f"{name} has NaN or infinite values in {len(bad)} of {len(x)} images, the "
                    f"first is number {bad[0]}; remove or repair them",
                )
            )
    problems.append(
        problem(config, f"{name} must be uint8 (0..255), got {x.dtype}; scale and convert it")
    )
    return problems


# --- labels ---------------------------------------------------------------------------------


def _check_labels(
    labels: dict[str, NDArray[Any]], images: dict[str, NDArray[Any]], config: DataConfig
) -> list[Problem]:
    problems = []
    for part, y in labels.items():
        num_images = len(x) if (x := images.get(part)) is not None and x.ndim else None
        if y.ndim != 1:
            problems.append(
                problem(config, f"y_{part} must have shape (N,), got {y.shape}; flatten it")
            )
        elif num_images is not None and len(y) != num_images:
            problems.append(
                problem(
                    config,
                    f"x_{part} has {num_images} images and y_{part} {len(y)} labels; there must "
                    "be one label an image, in the same order",
                )
            )
        if y.dtype.kind not in "iu":
            problems.append(
                problem(config, f"y_{part} must hold whole numbers, got {y.dtype}; convert it")
            )
    if "valid" in labels or "valid" in images:
        return problems + ([] if problems else _check_shared(labels, config))
    if not problems and len(labels) == 2:
        unknown = np.setdiff1d(_int64(labels["test"]), _int64(labels["train"]))
        if len(unknown):
            problems.append(
                problem(
                    config,
                    f"y_test has labels that y_train does not have: {few(unknown)}; every class "
                    "needs training images",
                )
            )
    return problems


def _merge_labels(
    labels: dict[str, NDArray[Any]], names: NDArray[Any] | None
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels 0..K-1 of train and test, and the name of each class."""
    values, y = np.unique(
        np.concatenate([_int64(part) for part in labels.values()]), return_inverse=True
    )
    if names is not None and names.shape == values.shape:
        return y.astype(np.int64), [str(name) for name in names.astype(str)]
    return y.astype(np.int64), [str(value) for value in values]


def _check_shared(labels: dict[str, NDArray[Any]], config: DataConfig) -> list[Problem]:
    problems = []
    for first, second in combinations(labels, 2):
        shared = np.intersect1d(_int64(labels[first]), _int64(labels[second]))
        if len(shared):
            message = (
                f"y_{first} and y_{second} share {len(shared)} classes: {few(shared)}; a class "
                "belongs to one split alone"
            )
            problems.append(problem(config, message))
    return problems


def _class_splits(labels: dict[str, NDArray[Any]]) -> ClassSplits:
    values = np.unique(np.concatenate([_int64(part) for part in labels.values()]))
    places = (np.searchsorted(values, np.unique(_int64(labels[split]))) for split in SPLITS)
    return ClassSplits(*(tuple(found.tolist()) for found in places))


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
        problems.append(problem(config, message))
        return None
    return tuple(str(group) for group in groups.tolist())


def _int64(y: NDArray[Any]) -> NDArray[np.int64]:
    # Together with int64, uint64 would become float64.
    return y.astype(np.int64)
