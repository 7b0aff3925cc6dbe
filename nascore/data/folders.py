"""Images from a folder: a folder a class, in `train/` and `test/` or in one tree.

Every file is looked at before anything is computed: first the headers, then the pixels, either
into memory or, when the folder is larger than `memory_limit_mb` allows, once through and on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nascore.config import DataConfig
from nascore.data.decoding import UNREADABLE, decode_all, in_threads
from nascore.data.raw import Raw, check_classes, check_square, few, problem, refuse, shortened
from nascore.errors import InputError, Problem

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_GREY = frozenset({"1", "L", "LA", "La"})
_DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})  # more than 8 bits a channel


def read_folder(config: DataConfig, path: str) -> Raw:
    """Reads `train/` and `test/` with a folder a class, or one tree of classes that is split.

    Classes are sorted by name. All files grey: one channel, otherwise RGB. `config.image_size`
    resizes (bilinear, aspect not kept).

    Raises:
        InputError: with every problem of the folder.
    """
    root = Path(path).expanduser()
    try:
        listing, problems = _list(root, config)
    except OSError as error:
        raise InputError([problem(config, f"cannot be listed ({error})")]) from error
    problems += check_classes(
        listing.labels, listing.classes, num_test=listing.num_test, config=config
    )
    size, channels, header_problems = _look_at_headers(root, listing.files, config)
    refuse(problems + header_problems)
    decoded_bytes = len(listing.files) * size * size * channels
    images = None
    if decoded_bytes <= config.memory_limit_mb * 2**20:
        images = decode_all(root, listing.files, size=size, channels=channels, config=config)
    return Raw(
        images=images,
        files=() if images is not None else tuple(listing.files),
        root=root.resolve(),
        labels=listing.labels,
        classes=tuple(listing.classes),
        num_test=listing.num_test,
        channels=channels,
        size=size,
    )


# --- names ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Listing:
    """POSIX paths relative to the root, in order: train before test, classes by name."""

    files: list[str]
    labels: NDArray[np.int64]
    classes: list[str]
    num_test: int


def _list(root: Path, config: DataConfig) -> tuple[_Listing, list[Problem]]:
    """Raises InputError when there is nothing to look at."""
    if not root.is_dir():
        raise InputError([problem(config, f"there is no folder {str(root)!r}")])
    parts, problems = _parts(root, config)
    files: list[str] = []
    names: list[str] = []
    seen: dict[str, set[str]] = {}
    num_train = 0
    for part in parts:
        num_train = len(files)
        folders = _folders(root / part)
        seen[part] = {folder.name for folder in folders}
        for folder in folders:
            found = _images(root, folder)
            if not found:
                problems.append(
                    problem(
                        config,
                        f"class folder {folder.relative_to(root)} has no image "
                        f"({few(sorted(SUFFIXES))}); add some or remove it",
                    )
                )
            files += found
            names += [folder.name] * len(found)
    problems += _check_names(files, config)
    if not files:
        problems.append(problem(config, "has no class folders with images"))
        raise InputError(problems)
    if len(parts) == 2 and (unknown := seen["test"] - seen["train"]):
        problems.append(
            problem(config, f"test/ has classes that train/ does not have: {few(sorted(unknown))}")
        )
    classes = sorted(set(names))
    index = {name: label for label, name in enumerate(classes)}
    labels = np.array([index[name] for name in names], np.int64)
    num_test = len(files) - num_train if len(parts) == 2 else 0
    return _Listing(files, labels, classes, num_test), problems


def _parts(root: Path, config: DataConfig) -> tuple[list[str], list[Problem]]:
    """`train` and `test`, or the tree itself; a class may be called train (CIFAR-100 has one)."""
    folders = {folder.name: folder for folder in _folders(root)}
    parts: list[str] = [
        name
        for name in ("train", "test")
        if name in folders and not any(_is_image(path) for path in folders[name].iterdir())
    ]
    if len(parts) == 1:
        other = "test" if parts[0] == "train" else "train"
        raise InputError(
            [
                problem(
                    config,
                    f"has a folder {parts[0]}/ but no {other}/; add it, or name the inner folder "
                    f"(imagefolder:{root / parts[0]}) to have it split",
                )
            ]
        )
    if not parts:
        return [""], []
    others = sorted(set(folders) - set(parts))
    if not others:
        return parts, []
    return parts, [
        problem(
            config,
            f"has folders beside train/ and test/: {few(others)}; move their images into train/ "
            "(validation images are taken from there) or move the folders away",
        )
    ]


def _folders(parent: Path) -> list[Path]:
    found = [p for p in parent.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(found, key=lambda path: path.name)


def _images(root: Path, folder: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in folder.rglob("*") if _is_image(p))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _check_names(files: Sequence[str], config: DataConfig) -> list[Problem]:
    return [
        problem(config, f"file name {name!r} has a line break; rename the file")
        for name in files
        if "\n" in name  # `files.txt` has one name a line
    ]


# --- headers --------------------------------------------------------------------------------


def _look_at_headers(
    root: Path, files: Sequence[str], config: DataConfig
) -> tuple[int, int, list[Problem]]:
    """Size and channels that all images shall have, and what stands against it."""

    def header(name: str) -> tuple[tuple[int, int], str] | Problem:
        try:
            with Image.open(root / name) as image:
                return image.size, image.mode
        except UNREADABLE as error:
            return problem(config, f"cannot read {name} ({error}); repair or remove it")

    unreadable: list[Problem] = []
    first_of_size: dict[tuple[int, int], str] = {}
    first_of_mode: dict[str, str] = {}
    for name, found in zip(files, in_threads(header, files), strict=True):
        if isinstance(found, Problem):
            unreadable.append(found)
        else:
            first_of_size.setdefault(found[0], name)
            first_of_mode.setdefault(found[1], name)
    problems = shortened(unreadable, config)
    problems += [
        problem(
            config,
            f"{first_of_mode[mode]} has more than 8 bits a channel (mode {mode}); convert such "
            "images to 8 bits",
        )
        for mode in sorted(_DEEP & set(first_of_mode))
    ]
    problems += _check_sizes(first_of_size, config)
    size = config.image_size or next((width for width, _ in first_of_size), 0)
    return size, 1 if set(first_of_mode) <= _GREY else 3, problems


def _check_sizes(first_of_size: dict[tuple[int, int], str], config: DataConfig) -> list[Problem]:
    if config.image_size is None and len(first_of_size) > 1:
        shown = " and ".join(
            f"{name} is {width}x{height}"
            for (width, height), name in list(first_of_size.items())[:2]
        )
        return [
            problem(
                config,
                f"images differ in size ({len(first_of_size)} sizes: {shown}); set "
                "data.image_size to resize them",
            )
        ]
    return [p for width, height in first_of_size for p in check_square(height, width, config)]
