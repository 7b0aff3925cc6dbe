"""Images from a folder or an archive; `layouts` and `class_layouts` find the class of each.

Every file is read before any training: first the headers, then the pixels, into memory or, when the
    folder is larger than `memory_limit_mb`, in one pass that keeps none.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data import file_access
from nascore.data.archives import ArchiveFiles, is_archive_name, is_unreadable_archive_name
from nascore.data.class_layouts import list_by_class
from nascore.data.decoding import decode_all, unreadable
from nascore.data.file_access import FileEntry, Files, LocalFiles, size_of
from nascore.data.findings import SOURCE, Finding, Findings, Tally, finding, refusal
from nascore.data.layouts import list_by_image
from nascore.data.listing import Listing
from nascore.data.parallel import in_parallel
from nascore.data.pixels import GREY_MODES, Header, read_header
from nascore.data.raw_dataset import Raw, check_classes, check_square
from nascore.errors import Problem

_STAND_IN_SIZE = 64  # for images of several sizes, whose faults are looked for all the same


def read_folder(config: DataConfig, path: str, findings: Findings) -> Raw:
    """Read images from a folder, a zip or a tar file: a folder for each class, labels in a table,
    or, for splits with different classes, a layout of `nascore.data.class_layouts`.

    Classes are sorted by name. All files grey: one channel, otherwise RGB. `config.image_size`
    resizes (bilinear, aspect not kept).

    Raises:
        InputError: The folder has problems; all are listed.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return read_files(config, open_archive(root, config), findings)
    if not root.is_dir():
        raise refusal(config, SOURCE, f"there is no folder {str(root)!r}")
    return read_files(config, LocalFiles(root.resolve()), findings)


def open_archive(path: Path, config: DataConfig, *, root: str | None = None) -> ArchiveFiles:
    """Open an archive as files.

    Raises:
        InputError: The name is not that of an archive that can be read.
    """
    if is_unreadable_archive_name(root or str(path)):
        message = (
            "is an archive of a kind that cannot be read; unpack it, or write it as .zip or .tar"
        )
        raise refusal(config, "archive", message)
    if not is_archive_name(root or str(path)):
        message = "is a file; name a folder, or a .zip or .tar file of one"
        raise refusal(config, SOURCE, message)
    return ArchiveFiles(path if root else path.resolve(), root=root, config=config)


def read_files(config: DataConfig, files: Files, findings: Findings) -> Raw:
    """Read images from files that may be anywhere.

    Raises:
        InputError: There are problems; all are listed.
    """
    list_files = list_by_class if config.split_by == "class" else list_by_image
    try:
        listing = list_files(files, config, findings)
    except OSError as error:
        raise refusal(config, SOURCE, f"cannot be listed ({error})") from error
    return read_listed(config, files, listing, findings)


def read_listed(config: DataConfig, files: Files, listing: Listing, findings: Findings) -> Raw:
    """Read the header of every listed file, and decode all where they fit into memory.

    Raises:
        InputError: There are problems; all are listed.
    """
    findings.problems += check_classes(
        listing.labels,
        listing.classes,
        num_test=listing.num_test,
        num_valid=listing.num_valid,
        config=config,
    )
    size, channels, readable = _look_at_headers(files, listing.entries, config, findings)
    streamed = len(listing.entries) * size * size * channels > config.memory_limit_mb * 2**20
    if streamed and isinstance(files, ArchiveFiles) and files.is_compressed_whole:
        message = (
            "is larger than data.memory_limit_mb when decoded, and a compressed tar cannot be read "
            "image by image; write it as .zip or .tar, unpack it, or raise data.memory_limit_mb"
        )
        findings.problems.append(finding(config, "archive", message))
    findings.checkpoint()
    raw = Raw(
        images=None,
        entries=tuple(listing.entries),
        files=files,
        labels=listing.labels,
        classes=tuple(listing.classes),
        num_test=listing.num_test,
        num_valid=listing.num_valid,
        channels=channels,
        size=size,
        groups=listing.groups,
        class_splits=listing.class_splits,
        image_groups=listing.image_groups,
        background=config.background_rgb,
        readable=readable,
    )
    if streamed:
        return raw
    images = decode_all(
        files,
        listing.entries,
        raw.pixel_format(config),
        readable=readable,
        config=config,
        findings=findings,
    )
    findings.checkpoint()
    names = tuple(entry.name for entry in listing.entries)
    return replace(raw, images=images, entries=(), files=None, names=names)


# --- headers --------------------------------------------------------------------------------


def _look_at_headers(
    files: Files, entries: Sequence[FileEntry], config: DataConfig, findings: Findings
) -> tuple[int, int, NDArray[np.bool_]]:
    """Return size and channels for all images, and which files have a header."""
    find_orientation = config.image_size is None

    def header(entry: FileEntry) -> Header | str:
        if (size_of(entry) or 0) > file_access.MAX_FILE_BYTES:
            return "it has more than 512 MB, which no image has"
        try:
            with files.open(entry) as file:
                return read_header(file, find_orientation=find_orientation)
        except OSError as error:
            return str(error)

    unread, deep = Tally(), Tally()
    readable = np.ones(len(entries), bool)
    first_of_size: dict[tuple[int, int], str] = {}
    modes: set[str] = set()
    has_alpha = False
    headers = in_parallel(header, entries, threads=files.num_threads, what="headers read")
    for place, (entry, found) in enumerate(zip(entries, headers, strict=True)):
        if isinstance(found, str):
            unread.add(entry.name, found)
            readable[place] = False
            continue
        first_of_size.setdefault((found.width, found.height), entry.name)
        modes.add(found.mode)
        has_alpha = has_alpha or found.has_alpha
        if found.is_deep:
            deep.add(entry.name, f"mode {found.mode}")
            readable[place] = False
    if unread.count:
        findings.problems.append(unreadable(unread, config))
    if deep.count:
        findings.problems.append(_too_deep(deep, config))
    findings.problems += _check_sizes(first_of_size, config)
    if not first_of_size:
        findings.refuse()
    size = config.image_size or next(width for width, _ in first_of_size)
    if config.image_size is None and any(
        wide != size or high != size for wide, high in first_of_size
    ):
        size = _STAND_IN_SIZE
    return size, config.channels or _channels(modes, has_alpha, config), readable


def _channels(modes: set[str], has_alpha: bool, config: DataConfig) -> int:
    red, green, blue = config.background_rgb
    background_is_grey = red == green == blue
    return 1 if modes <= GREY_MODES and (background_is_grey or not has_alpha) else 3


def _too_deep(tally: Tally, config: DataConfig) -> Finding:
    message = "{count} images have more than 16 bits a channel: {examples}; convert them to 8 or 16"
    return tally.finding(config, "too-deep", message)


def _check_sizes(first_of_size: dict[tuple[int, int], str], config: DataConfig) -> list[Problem]:
    if config.image_size is None and len(first_of_size) > 1:
        shown = " and ".join(
            f"{name} is {width}x{height}"
            for (width, height), name in list(first_of_size.items())[:2]
        )
        message = (
            f"images differ in size ({len(first_of_size)} sizes: {shown}); set "
            "data.image_size to resize them"
        )
        return [finding(config, "image-size", message)]
    return [p for width, height in first_of_size for p in check_square(height, width, config)]
