"""Where images come from. Everything here is numpy and Pillow; torch is not imported.

A source gives either all images as one array, or the list of files of a folder that is too large
for memory. Whatever is wrong with it is found here and told in one message.
"""

import difflib
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nascore.config import DataConfig
from nascore.errors import InputError, Problem

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_KEY = "data.source"
_MAX_LISTED = 5  # files named in one message


@dataclass(frozen=True)
class Raw:
    """Labelled images as they were found.

    Attributes:
        images: uint8 (N, H, W, C), or None when streamed.
        files: paths relative to `root`, in order, when streamed.
        labels: int64 (N,), values 0..len(classes)-1.
        classes: names, by label.
        num_test: the last `num_test` images are the source's own test split; 0 when it has none.
        channels: 1 or 3 (or more for npz).
        size: height and width in pixels.
    """

    images: NDArray[np.uint8] | None
    files: tuple[str, ...]
    root: Path | None
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    num_test: int
    channels: int
    size: int


def read(config: DataConfig) -> Raw:
    """Reads the source that `config.source` names.

    Raises:
        InputError: with every problem that was found.
    """
    name, _, rest = config.source.partition(":")
    if config.source.startswith("s3://") or rest.startswith("s3://"):
        raise InputError.of(
            _KEY, config.source, "is not read here; copy the data to a local path and name that"
        )
    if name not in SOURCES:
        close = difflib.get_close_matches(name, SOURCES, n=1)
        raise InputError.of(
            _KEY,
            config.source,
            f"unknown source; use {', '.join(_USAGE)}"
            + (f"; did you mean {close[0]!r}?" if close else ""),
        )
    raw = SOURCES[name](config, rest)
    _check_classes(raw, config)
    return raw


# --- arrays ---------------------------------------------------------------------------------


def _digits(config: DataConfig, rest: str) -> Raw:
    """1,797 real handwritten digits, 8x8, that scikit-learn carries (values 0..16)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return _from_arrays(
        images,
        bunch.target.astype(np.int64),
        [str(d) for d in range(10)],
        num_test=0,
        config=config,
    )


def _cifar(config: DataConfig, rest: str) -> Raw:
    """CIFAR through torchvision's own reader; imported here since it is slow to import."""
    from torchvision import datasets

    name = config.source.partition(":")[0]
    root = str(config.root or Path.home() / ".cache" / "nas" / name)
    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    try:
        parts = [kind(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise InputError.of(
            "data.root",
            root,
            f"{name} is not there and cannot be downloaded ({error}); put torchvision's files "
            "into this folder, or use data.source=npz:FILE",
        ) from error
    images = np.concatenate([part.data for part in parts])
    labels = np.concatenate([np.asarray(part.targets, np.int64) for part in parts])
    return _from_arrays(
        images, labels, list(parts[0].classes), num_test=len(parts[1].data), config=config
    )


def _npz(config: DataConfig, rest: str) -> Raw:
    """x_train, y_train and, when there, x_test, y_test and classes."""
    arrays = _load_npz(Path(rest).expanduser(), config.source)
    problems: list[Problem] = []
    parts = []
    for part in ("train", "test"):
        missing = [f"{axis}_{part}" for axis in "xy" if f"{axis}_{part}" not in arrays]
        if len(missing) == 2 and part == "test":
            continue
        if missing:
            problems.append(
                Problem(
                    _KEY,
                    config.source,
                    f"has no array {' and '.join(missing)}; found {', '.join(sorted(arrays))}; "
                    "write x_train, y_train and, if you have them, x_test, y_test",
                )
            )
            continue
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        problems += _check_images(x, f"x_{part}", config.source)
        problems += _check_labels(y, len(x) if x.ndim else 0, part, config.source)
        parts.append((x, y))
    if not problems and len(parts) == 2 and parts[0][0].shape[1:] != parts[1][0].shape[1:]:
        problems.append(
            Problem(
                _KEY,
                config.source,
                f"x_train has images of shape {parts[0][0].shape[1:]} and x_test of "
                f"{parts[1][0].shape[1:]}; they must be the same",
            )
        )
    if problems:
        raise InputError(problems)
    values = np.unique(np.concatenate([y for _, y in parts]))
    unknown = np.setdiff1d(parts[1][1], parts[0][1]) if len(parts) == 2 else np.array([])
    if len(unknown):
        raise InputError.of(
            _KEY,
            config.source,
            f"y_test has labels that y_train does not have: {_few(unknown)}; "
            "every class needs training images",
        )
    images = np.concatenate([x if x.ndim == 4 else x[..., None] for x, _ in parts])
    labels = np.searchsorted(values, np.concatenate([y for _, y in parts])).astype(np.int64)
    names = arrays.get("classes")
    classes = (
        [str(name) for name in names]
        if names is not None and names.ndim == 1 and len(names) == len(values)
        else [str(value) for value in values]
    )
    num_test = len(parts[1][1]) if len(parts) == 2 else 0
    return _from_arrays(
        images.astype(np.uint8, copy=False), labels, classes, num_test=num_test, config=config
    )


def _load_npz(path: Path, source: str) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise InputError.of(_KEY, source, f"there is no file {path}; give npz:PATH of a .npz file")
    if path.stat().st_size == 0:
        raise InputError.of(_KEY, source, "the file is empty")
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError.of(_KEY, source, "is a single array; write it with numpy.savez")
            return {name: file[name] for name in file.files}
    except PermissionError as error:
        raise InputError.of(_KEY, source, "may not be read; check its permissions") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise InputError.of(
            _KEY,
            source,
            f"cannot be read as npz ({error}); it is damaged, cut short or holds objects",
        ) from error
    except (
        Exception
    ) as error:  # zlib.error and struct.error of a damaged member have no common base
        if type(error).__module__ not in ("zlib", "struct"):
            raise
        raise InputError.of(_KEY, source, f"is damaged ({error}); copy it again") from error


def _check_images(x: NDArray[Any], name: str, source: str) -> list[Problem]:
    problems = []
    if x.ndim not in (3, 4) or 0 in x.shape:
        problems.append(
            Problem(
                _KEY, source, f"{name} must have shape (N, H, W) or (N, H, W, C), got {x.shape}"
            )
        )
    if x.dtype.kind == "f":
        is_finite = np.isfinite(x.reshape(len(x), -1)).all(axis=1) if x.size else np.ones(1, bool)
        bad = np.flatnonzero(~is_finite)
        if len(bad):
            problems.append(
                Problem(
                    _KEY,
                    source,
                    f"{name} has NaN or infinite values in {len(bad)} images, "
                    f"the first is number {bad[0]}; remove or repair them",
                )
            )
        problems.append(
            Problem(
                _KEY, source, f"{name} must be uint8 (0..255), got {x.dtype}; scale and convert it"
            )
        )
    elif x.dtype.kind not in "iu":
        problems.append(Problem(_KEY, source, f"{name} must be uint8 (0..255), got {x.dtype}"))
    elif x.dtype != np.uint8 and x.size and (x.min() < 0 or x.max() > 255):
        problems.append(
            Problem(_KEY, source, f"{name} must lie in 0..255, got {x.min()}..{x.max()}")
        )
    return problems


def _check_labels(y: NDArray[Any], num_images: int, part: str, source: str) -> list[Problem]:
    if y.ndim != 1 or len(y) != num_images:
        return [
            Problem(
                _KEY,
                source,
                f"y_{part} must have one label for each of the {num_images} images of x_{part}, "
                f"got shape {y.shape}",
            )
        ]
    if y.dtype.kind not in "iu":
        return [Problem(_KEY, source, f"y_{part} must hold whole numbers, got {y.dtype}")]
    return []


def _from_arrays(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: list[str],
    *,
    num_test: int,
    config: DataConfig,
) -> Raw:
    height, width, channels = images.shape[1:]
    size = config.image_size
    if size is None and height != width:
        raise InputError.of(
            _KEY,
            config.source,
            f"images are {height}x{width}, networks here read square ones; "
            "set data.image_size to resize them",
        )
    if size is not None and (height, width) != (size, size):
        images = np.stack([_resize(image, size) for image in images])
    return Raw(
        images=images,
        files=(),
        root=None,
        labels=labels,
        classes=tuple(classes),
        num_test=num_test,
        channels=channels,
        size=images.shape[1],
    )


def _resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    planes = [
        np.asarray(Image.fromarray(image[..., c]).resize((size, size), Image.Resampling.BILINEAR))
        for c in range(image.shape[-1])
    ]
    return np.stack(planes, axis=-1)


# --- folders --------------------------------------------------------------------------------


def _imagefolder(config: DataConfig, rest: str) -> Raw:
    """`train/` and `test/` with a folder a class, or one tree of class folders that is split."""
    root = Path(rest).expanduser()
    files, labels, classes, num_test = _list_files(root, config.source)
    sizes, modes = _headers(root, files, config)
    channels = 1 if modes <= {"L", "1", "I;16"} else 3
    size = config.image_size or sizes[0]
    if len(files) * size * size * channels > config.memory_limit_mb * 2**20:
        images = None
    else:
        images = decode(root, files, size=size, channels=channels, source=config.source)
    return Raw(
        images=images,
        files=() if images is not None else tuple(files),
        root=root.resolve(),
        labels=labels,
        classes=tuple(classes),
        num_test=num_test,
        channels=channels,
        size=size,
    )


def _list_files(root: Path, source: str) -> tuple[list[str], NDArray[np.int64], list[str], int]:
    if not root.is_dir():
        raise InputError.of(_KEY, source, f"there is no folder {root}")
    parts = [part for part in ("train", "test") if (root / part).is_dir()]
    if len(parts) == 1:
        other = "test" if parts[0] == "train" else "train"
        raise InputError.of(
            _KEY,
            source,
            f"has a folder {parts[0]}/ but no {other}/; add it, or name the inner folder "
            f"(imagefolder:{root / parts[0]}) to have it split",
        )
    problems: list[Problem] = []
    files: list[str] = []
    names: list[str] = []
    counts = []
    class_sets = []
    for part in parts or [""]:
        folders = sorted(p for p in (root / part).iterdir() if p.is_dir())
        class_sets.append({folder.name for folder in folders})
        before = len(files)
        for folder in folders:
            found = sorted(
                p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
            )
            if not found:
                problems.append(
                    Problem(_KEY, source, f"class folder {folder} has no image ({_suffixes()})")
                )
            files += [str(p.relative_to(root)) for p in found]
            names += [folder.name] * len(found)
        counts.append(len(files) - before)
    if not files and not problems:
        problems.append(
            Problem(_KEY, source, f"{root} has no folder of images a class ({_suffixes()})")
        )
    if len(class_sets) == 2 and class_sets[1] - class_sets[0]:
        problems.append(
            Problem(
                _KEY,
                source,
                "test/ has classes that train/ does not have: "
                + _few(sorted(class_sets[1] - class_sets[0])),
            )
        )
    if problems:
        raise InputError(problems)
    classes = sorted(set(names))
    index = {name: label for label, name in enumerate(classes)}
    labels = np.array([index[name] for name in names], np.int64)
    return files, labels, classes, counts[1] if len(counts) == 2 else 0


def _headers(root: Path, files: list[str], config: DataConfig) -> tuple[tuple[int, ...], set[str]]:
    """Looks at every file's header: the common size, and the colour modes."""

    def header(name: str) -> tuple[tuple[int, int], str] | Problem:
        try:
            with Image.open(root / name) as image:
                return image.size, image.mode
        except (OSError, UnidentifiedImageError) as error:
            return Problem(_KEY, config.source, f"cannot read {root / name} ({error})")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(header, files))
    problems = [item for item in found if isinstance(item, Problem)]
    good = [
        (name, *item) for name, item in zip(files, found, strict=True) if isinstance(item, tuple)
    ]
    first: dict[tuple[int, int], str] = {}
    for name, size, _ in good:
        first.setdefault(size, name)
    if len(first) > 1 and config.image_size is None:
        shown = ", ".join(
            f"{name} is {width}x{height}" for (width, height), name in list(first.items())[:2]
        )
        problems.append(
            Problem(
                _KEY,
                config.source,
                f"images differ in size ({len(first)} sizes; {shown}); "
                "set data.image_size to resize them",
            )
        )
    elif len(first) == 1 and config.image_size is None:
        width, height = next(iter(first))
        if width != height:
            problems.append(
                Problem(
                    _KEY,
                    config.source,
                    f"images are {width}x{height}, networks here read square ones; "
                    "set data.image_size to resize them",
                )
            )
    if problems:
        raise InputError(_shortened(problems, config.source))
    return next(iter(first)), {mode for _, _, mode in good}


def decode(
    root: Path, files: list[str], *, size: int, channels: int, source: str
) -> NDArray[np.uint8]:
    """Decodes files into uint8 (N, size, size, channels), several at a time.

    Raises:
        InputError: naming the files that cannot be decoded.
    """

    def one(name: str) -> NDArray[np.uint8] | Problem:
        try:
            return decode_one(root / name, size=size, channels=channels)
        except (OSError, ValueError, SyntaxError) as error:
            return Problem(_KEY, source, f"cannot decode {root / name} ({error})")

    with ThreadPoolExecutor(4) as pool:  # Pillow decodes outside the interpreter lock
        found = list(pool.map(one, files))
    problems = [item for item in found if isinstance(item, Problem)]
    if problems:
        raise InputError(_shortened(problems, source))
    return np.stack([item for item in found if not isinstance(item, Problem)])


def decode_one(path: Path, *, size: int, channels: int) -> NDArray[np.uint8]:
    """One image as uint8 (size, size, channels)."""
    with Image.open(path) as image:
        converted = image.convert("L" if channels == 1 else "RGB")
    if converted.size != (size, size):
        converted = converted.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(converted, np.uint8).reshape(size, size, channels)


# --- what holds for every source ------------------------------------------------------------


def _check_classes(raw: Raw, config: DataConfig) -> None:
    """At least two classes, and at least three images a class: train, valid and test need one."""
    problems = []
    if len(raw.classes) < 2:
        problems.append(
            Problem(_KEY, config.source, f"needs at least 2 classes, got {list(raw.classes)}")
        )
    num_train = len(raw.labels) - raw.num_test
    counts = np.bincount(raw.labels[:num_train], minlength=len(raw.classes))
    for label in np.flatnonzero(counts < 3):
        problems.append(
            Problem(
                _KEY,
                config.source,
                f"class {raw.classes[label]!r} has {counts[label]} training images, needs at least "
                "3 (train, valid and test); add images or leave the class out",
            )
        )
    if problems:
        raise InputError(_shortened(problems, config.source))


def _shortened(problems: list[Problem], source: str) -> list[Problem]:
    if len(problems) <= _MAX_LISTED:
        return problems
    rest = len(problems) - _MAX_LISTED
    return [*problems[:_MAX_LISTED], Problem(_KEY, source, f"and {rest} more of this kind")]


def _few(values: Any) -> str:
    shown = [str(value) for value in values[:_MAX_LISTED]]
    return ", ".join(shown) + (", ..." if len(values) > _MAX_LISTED else "")


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


_USAGE = ("digits", "cifar10", "cifar100", "npz:PATH", "imagefolder:PATH")

SOURCES: dict[str, Callable[[DataConfig, str], Raw]] = {
    "digits": _digits,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "npz": _npz,
    "imagefolder": _imagefolder,
}
