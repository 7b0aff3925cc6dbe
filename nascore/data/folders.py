"""Images from a folder: a folder a class, in `train/` and `test/` or in one tree.

Every file is looked at before anything is computed: first the headers, then the pixels, either
into memory or, when the folder is larger than `memory_limit_mb` allows, once through and on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nascore.config import DataConfig
from nascore.data.decoding import UNREADABLE, decode_all, in_threads
from nascore.data.files import Entry, Files, LocalFiles
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
    if not root.is_dir():
        raise InputError([problem(config, f"there is no folder {str(root)!r}")])
    return read_files(config, LocalFiles(root.resolve()))


def read_files(config: DataConfig, files: Files) -> Raw:
    """The same for files that lie anywhere.

    Raises:
        InputError: with every problem that was found.
    """
    try:
        listing, problems = _list(files, config)
    except OSError as error:
        raise InputError([problem(config, f"cannot be listed ({error})")]) from error
    problems += check_classes(
        listing.labels, listing.classes, num_test=listing.num_test, config=config
    )
    size, channels, header_problems = _look_at_headers(files, listing.entries, config)
    refuse(problems + header_problems)
    decoded_bytes = len(listing.entries) * size * size * channels
    images = None
    if decoded_bytes <= config.memory_limit_mb * 2**20:
        images = decode_all(files, listing.entries, size=size, channels=channels, config=config)
    return Raw(
        images=images,
        entries=() if images is not None else tuple(listing.entries),
        files=None if images is not None else files,
        labels=listing.labels,
        classes=tuple(listing.classes),
        num_test=listing.num_test,
        channels=channels,
        size=size,
    )


# --- names ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Listing:
    """Images in order: train before test, classes by name."""

    entries: list[Entry]
    labels: NDArray[np.int64]
    classes: list[str]
    num_test: int


class _Tree:
    """Names below the root, sorted: the folders of each folder, and the images in and below it."""

    def __init__(self, files: Files) -> None:
        self.folders: dict[str, set[str]] = {"": set()}
        self.has_images: set[str] = set()
        self.images: dict[str, list[Entry]] = {}
        for entry in files.entries():
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        *parents, last = entry.name.split("/")
        parent = ""
        # Parts and classes: nothing needs the names of folders that lie deeper.
        for name in parents[:2]:
            if name.startswith("."):
                break
            inner = f"{parent}{name}/"
            self.folders[parent].add(name)
            self.folders.setdefault(inner, set())
            parent = inner
            if _is_image(last):
                self.images.setdefault(inner, []).append(entry)
        if len(parents) == 1 and _is_image(last):
            self.has_images.add(parent)

    def classes(self, part: str) -> list[str]:
        return sorted(self.folders[part])

    def images_of(self, folder: str) -> list[Entry]:
        return sorted(self.images.get(folder, []))


def _list(files: Files, config: DataConfig) -> tuple[_Listing, list[Problem]]:
    """Raises InputError when there is nothing to look at."""
    tree = _Tree(files)
    parts, problems = _parts(tree, files.root, config)
    entries: list[Entry] = []
    names: list[str] = []
    num_train = 0
    for part in parts:
        num_train = len(entries)
        for name in tree.classes(part):
            found = tree.images_of(f"{part}{name}/")
            if not found:
                problems.append(
                    problem(
                        config,
                        f"class folder {part}{name} has no image "
                        f"({few(sorted(SUFFIXES))}); add some or remove it",
                    )
                )
            entries += found
            names += [name] * len(found)
    problems += _check_names(entries, config)
    if not entries:
        problems.append(problem(config, "has no class folders with images"))
        raise InputError(problems)
    if len(parts) == 2 and (unknown := tree.folders["test/"] - tree.folders["train/"]):
        problems.append(
            problem(config, f"test/ has classes that train/ does not have: {few(sorted(unknown))}")
        )
    classes = sorted(set(names))
    index = {name: label for label, name in enumerate(classes)}
    labels = np.array([index[name] for name in names], np.int64)
    num_test = len(entries) - num_train if len(parts) == 2 else 0
    return _Listing(entries, labels, classes, num_test), problems


def _parts(tree: _Tree, root: str, config: DataConfig) -> tuple[list[str], list[Problem]]:
    """`train/` and `test/`, or the tree itself; a class may be called train (CIFAR-100 has one)."""
    folders = tree.folders[""]
    parts = [
        f"{name}/"
        for name in ("train", "test")
        if name in folders and f"{name}/" not in tree.has_images
    ]
    if len(parts) == 1:
        other = "test/" if parts[0] == "train/" else "train/"
        raise InputError(
            [
                problem(
                    config,
                    f"has a folder {parts[0]} but no {other}; add it, or name the inner folder "
                    f"(imagefolder:{root}/{parts[0][:-1]}) to have it split",
                )
            ]
        )
    if not parts:
        return [""], []
    others = sorted(folders - {"train", "test"})
    if not others:
        return parts, []
    return parts, [
        problem(
            config,
            f"has folders beside train/ and test/: {few(others)}; move their images into train/ "
            "(validation images are taken from there) or move the folders away",
        )
    ]


def _is_image(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES


def _check_names(entries: Sequence[Entry], config: DataConfig) -> list[Problem]:
    return [
        problem(config, f"file name {name!r} has a line break or a tab; rename the file")
        for name, _ in entries
        if "\n" in name or "\t" in name  # `files.txt` has one name a line, and a version behind it
    ]


# --- headers --------------------------------------------------------------------------------


def _look_at_headers(
    files: Files, entries: Sequence[Entry], config: DataConfig
) -> tuple[int, int, list[Problem]]:
    """Size and channels that all images shall have, and what stands against it."""

    def header(entry: Entry) -> tuple[tuple[int, int], str] | Problem:
        try:
            with files.open(entry) as file, Image.open(file) as image:
                return image.size, image.mode
        except UNREADABLE as error:
            return problem(config, f"cannot read {entry.name} ({error}); repair or remove it")

    unreadable: list[Problem] = []
    first_of_size: dict[tuple[int, int], str] = {}
    first_of_mode: dict[str, str] = {}
    headers = in_threads(header, entries, threads=files.num_threads)
    for (name, _), found in zip(entries, headers, strict=True):
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
