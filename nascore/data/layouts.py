"""How the folders of an image data set tell its classes, where all splits have the same ones.

`train/` and `test/` with a folder a class, or one tree of class folders that is split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.classes import ClassSplits
from nascore.data.files import Entry, Files
from nascore.data.raw import few, problem
from nascore.errors import InputError, Problem

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


@dataclass(frozen=True)
class Listing:
    """Images in order.

    Attributes:
        classes: names, by label.
        num_test: the last ones are the source's own test images.
        groups, class_splits: as in `Raw`.
    """

    entries: list[Entry]
    labels: NDArray[np.int64]
    classes: list[str]
    num_test: int
    groups: tuple[str, ...] | None = None
    class_splits: ClassSplits | None = None

    @classmethod
    def of(cls, entries: list[Entry], names: Sequence[str], *, num_test: int = 0) -> "Listing":
        """With the classes sorted by name."""
        classes = sorted(set(names))
        index = {name: label for label, name in enumerate(classes)}
        labels = np.array([index[name] for name in names], np.int64)
        return cls(entries, labels, classes, num_test)


class Tree:
    """Names below the root, sorted: the folders of each folder, and the images in and below it.

    Attributes:
        beside: files in the root itself, by name.
        has_images: folders in the root that have images of their own.
    """

    def __init__(self, files: Files) -> None:
        self.beside: dict[str, Entry] = {}
        self.folders: dict[str, set[str]] = {"": set()}
        self.has_images: set[str] = set()
        self.images: dict[str, list[Entry]] = {}
        for entry in files.entries():
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        *parents, last = entry.name.split("/")
        if not parents:
            self.beside[last] = entry
        parent = ""
        # Parts and classes: nothing needs the names of folders that lie deeper.
        for name in parents[:2]:
            if name.startswith("."):
                break
            inner = f"{parent}{name}/"
            self.folders[parent].add(name)
            self.folders.setdefault(inner, set())
            parent = inner
            if is_image(last):
                self.images.setdefault(inner, []).append(entry)
        if len(parents) == 1 and is_image(last):
            self.has_images.add(parent)

    def classes(self, part: str) -> list[str]:
        return sorted(self.folders[part])

    def images_of(self, folder: str) -> list[Entry]:
        return sorted(self.images.get(folder, []))


def list_by_image(files: Files, config: DataConfig) -> tuple[Listing, list[Problem]]:
    """Images and what is wrong with them; raises InputError when there is nothing to look at."""
    return list_tree(Tree(files), files.root, config)


def list_tree(tree: Tree, root: str, config: DataConfig) -> tuple[Listing, list[Problem]]:
    """The same of files that have been listed."""
    parts, problems = _parts(tree, root, config)
    entries: list[Entry] = []
    names: list[str] = []
    num_train = 0
    for part in parts:
        num_train = len(entries)
        for name in tree.classes(part):
            found = tree.images_of(f"{part}{name}/")
            if not found:
                problems.append(without_images(f"{part}{name}", config))
            entries += found
            names += [name] * len(found)
    problems = check_names(entries, problems, config)
    if len(parts) == 2 and (unknown := tree.folders["test/"] - tree.folders["train/"]):
        problems.append(
            problem(config, f"test/ has classes that train/ does not have: {few(sorted(unknown))}")
        )
    num_test = len(entries) - num_train if len(parts) == 2 else 0
    return Listing.of(entries, names, num_test=num_test), problems


def _parts(tree: Tree, root: str, config: DataConfig) -> tuple[list[str], list[Problem]]:
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


def without_images(folder: str, config: DataConfig) -> Problem:
    kinds = few(sorted(SUFFIXES))
    return problem(config, f"class folder {folder} has no image ({kinds}); add some or remove it")


def is_image(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES


def check_names(
    entries: Sequence[Entry], problems: Sequence[Problem], config: DataConfig
) -> list[Problem]:
    """These problems and those of the names; raises InputError when there is no image at all."""
    if not entries:
        raise InputError([*problems, problem(config, "has no class folders with images")])
    return [*problems, *_of_names(entries, config)]


def _of_names(entries: Sequence[Entry], config: DataConfig) -> list[Problem]:
    return [
        problem(config, f"file name {name!r} has a line break or a tab; rename the file")
        for name, _ in entries
        if "\n" in name or "\t" in name  # `files.txt` has one name a line, and a version behind it
    ]
