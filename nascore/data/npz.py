"""Images from a NumPy archive: x_train, y_train and, when there, x_test, y_test, classes."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
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


def read_npz(config: DataConfig, path: str) -> Raw:
    """Reads x (N, H, W) or (N, H, W, C) with whole numbers 0..255, and y (N,) with whole numbers.

    Labels may be any whole numbers: they are mapped to 0..K-1 in ascending order. `classes` names
    them when it has K entries.

    Raises:
        InputError: with every problem of the file.
    """
    arrays, problems = _load(Path(path).expanduser(), config)
    parts = [part for part in ("train", "test") if part == "train" or _has_test(arrays)]
    problems += [
        problem(
            config,
            f"has no array {axis}_{part}; write x_train and y_train and, to bring your own test "
            "split, both x_test and y_test",
        )
        for part in parts
        for axis in "xy"
        if f"{axis}_{part}" not in arrays
    ]
    images = {p: x for p in parts if (x := arrays.get(f"x_{p}")) is not None}
    labels = {p: y for p in parts if (y := arrays.get(f"y_{p}")) is not None}
    image_problems = _check_images(images, config)
    label_problems = _check_labels(labels, images, config)
    problems += image_problems + label_problems
    if not label_problems and len(labels) == len(parts):
        merged, classes = _merge_labels(labels, arrays.get("classes"))
        num_test = len(labels["test"]) if "test" in labels else 0
        problems += check_classes(merged, classes, num_test=num_test, config=config)
    refuse(problems)
    x = np.concatenate([x if x.ndim == 4 else x[..., None] for x in images.values()])
    return from_arrays(
        x.astype(np.uint8, copy=False), merged, classes=classes, num_test=num_test, config=config
    )


def _has_test(arrays: dict[str, NDArray[Any] | None]) -> bool:
    return "x_test" in arrays or "y_test" in arrays


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
            for name in (name for name in _ARRAYS if name in file.files):
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
    if len(set(shapes.values())) > 1:
        problems.append(
            problem(
                config,
                f"x_train has images of shape {shapes['train']}, x_test of {shapes['test']}; "
                "they must be the same",
            )
        )
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


def _int64(y: NDArray[Any]) -> NDArray[np.int64]:
    # Together with int64, uint64 would become float64.
    return y.astype(np.int64)
