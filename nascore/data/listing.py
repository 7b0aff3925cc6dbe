"""Listing of images in order, each with its class, which every layout results in."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.archives import is_archive_name
from nascore.data.class_splits import ClassSplits
from nascore.data.endings import ending
from nascore.data.file_access import FileEntry
from nascore.data.findings import Finding, Findings, finding
from nascore.data.raw_dataset import shortened
from nascore.data.tree import Folder, Tree
from nascore.errors import InputError, Problem

MOST_SKIPPED = 0.01  # share of a class that may be left out without being allowed
NO_CLASSES = "has no class folders with images"
_KINDS = ".jpg, .png, .webp, .tif, .gif, ..."


@dataclass(frozen=True)
class Listing:
    """Images in order.

    Attributes:
        classes: names, by label.
        num_test: the last ones are the source's own test images.
        num_valid: those before them are its own validation images.
        groups, class_splits, image_groups: as in `Raw`.
    """

    entries: list[FileEntry]
    labels: NDArray[np.int64]
    classes: list[str]
    num_test: int = 0
    groups: tuple[str, ...] | None = None
    class_splits: ClassSplits | None = None
    num_valid: int = 0
    image_groups: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        entries: list[FileEntry],
        names: Sequence[str],
        *,
        num_test: int = 0,
        num_valid: int = 0,
    ) -> "Listing":
        """Return a listing with the classes sorted by name."""
        classes = sorted(set(names))
        index = {name: label for label, name in enumerate(classes)}
        labels = np.array([index[name] for name in names], np.int64)
        return cls(entries, labels, classes, num_test, num_valid=num_valid)


def without_images(folder: str, config: DataConfig) -> Finding:
    """Return the finding about a class folder without images."""
    message = f"class folder {folder} has no image ({_KINDS}); add some or remove it"
    return finding(config, "empty-class", message, [folder])


def check_names(
    entries: Sequence[FileEntry], problems: Sequence[Problem], config: DataConfig
) -> list[Problem]:
    """Return these problems and those of file names.

    Raises:
        InputError: There is no image.
    """
    if not entries:
        raise InputError([*problems, finding(config, "layout", NO_CLASSES)])
    return [*problems, *_of_names(entries, config)]


def _of_names(entries: Sequence[FileEntry], config: DataConfig) -> list[Problem]:
    # `files.txt` has one name a line, and a version behind it.
    bad = [entry.name for entry in entries if "\n" in entry.name or "\t" in entry.name]
    found: list[Problem] = [
        finding(
            config,
            "unreadable-name",
            f"file name {name!r} has a line break or a tab; rename the file",
            [repr(name)],
        )
        for name in bad
    ]
    return shortened(found, config)


def check_class_names(names: Sequence[str], config: DataConfig) -> list[Problem]:
    """Return a problem for classes whose names look alike: to most users and file systems they are
    one.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        alike.setdefault(_plain(name), []).append(name)
    pairs = [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]
    if not pairs:
        return []
    message = (
        "has {count} classes that differ in case, accents' encoding or blanks only (underscores, "
        "invisible characters and leading zeros among them): {examples}; "
        "give both one name"
    )
    return [finding(config, "class-names", message, pairs)]


def _plain(name: str) -> str:
    """Return the visible part of a name."""
    text = unicodedata.normalize("NFC", name).casefold()
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    plain = " ".join(visible.replace("_", " ").split())
    return plain.lstrip("0") if plain.isdigit() else plain


# --- what is left out -----------------------------------------------------------------------


def report_left_out(
    tree: Tree,
    by_class: Mapping[str, Sequence[Folder]],
    config: DataConfig,
    findings: Findings,
) -> None:
    """Report files that cannot be read as images: a problem where they are more than 1 % of a
    class.

    Args:
        by_class: the folders of each class, by its name in messages.
    """
    if not tree.root.num_left_out:
        return
    everything = tree.root.all_left_out()
    endings = Counter(ending(entry.name) or "no ending" for entry in everything)
    shown = ", ".join(f"{name} {count:,}" for name, count in endings.most_common(5))
    message = f"{{count}} files are no images that can be read ({shown}): {{examples}}"
    if ".heic" in endings or ".heif" in endings:
        message += "; pillow-heif, where it is installed, reads .heic"
    large = []
    for name, folders in by_class.items():
        lost = sum(folder.num_left_out for folder in folders)
        whole = lost + sum(folder.num_below for folder in folders)
        if lost > MOST_SKIPPED * whole:
            large.append(f"{lost:,} of {whole:,} of {name}")
    archives = [entry.name for entry in everything if is_archive_name(entry.name)]
    names = archives[:3] or [entry.name for entry in everything[:3]]
    is_problem = bool(large or archives) and not config.allow_skipped
    if is_problem:
        if large:
            message += f"; these are {', '.join(large[:3])}{', ...' if len(large) > 3 else ''}"
        if archives:  # each may hold any number of images
            message += "; archives within a data set are not read: unpack them"
        message += (
            "; convert or remove what cannot be read, or set data.allow_skipped=true to leave it "
            "out"
        )
    else:
        message += "; they were left out"
    made = finding(config, "skipped-files", message, names, count=len(everything))
    (findings.problems if is_problem else findings.warnings).append(made)


def report_unlabelled(
    names: Sequence[str], num_images: int, config: DataConfig, findings: Findings, *, why: str
) -> None:
    """Report images that have no class.

    Args:
        num_images: images that have one.
        why: reason, such as their place or the table that does not name them.
    """
    if not names:
        return
    few = len(names) <= MOST_SKIPPED * (num_images + len(names))
    message = f"{{count}} images have no label, since {why}: {{examples}}; "
    if few or config.allow_skipped:
        message += "they were left out"
        target: list[Problem] | list[Finding] = findings.warnings
    else:
        message += "label or remove them, or set data.allow_skipped=true to leave them out"
        target = findings.problems
    target.append(finding(config, "unlabelled-files", message, names))
