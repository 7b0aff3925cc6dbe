"""Images from a folder; `layouts` and `class_layouts` know how classes may lie in it.

Every file is looked at before anything is computed: first the headers, then the pixels, either
into memory or, when the folder is larger than `memory_limit_mb` allows, once through and on.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from nascore.config import DataConfig
from nascore.data.class_layouts import list_by_class
from nascore.data.decoding import UNREADABLE, decode_all, in_threads
from nascore.data.files import Entry, Files, LocalFiles
from nascore.data.layouts import Listing, list_by_image
from nascore.data.raw import Raw, check_classes, check_square, problem, refuse, shortened
from nascore.errors import InputError, Problem

_GREY = frozenset({"1", "L", "LA", "La"})
_DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})  # more than 8 bits a channel


def read_folder(config: DataConfig, path: str) -> Raw:
    """Reads a folder a class, in the layouts of `nascore.data.layouts` or, where the splits shall
    have different classes, of `nascore.data.class_layouts`.

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
    list_files = list_by_class if config.split_by == "class" else list_by_image
    try:
        listing, problems = list_files(files, config)
    except OSError as error:
        raise InputError([problem(config, f"cannot be listed ({error})")]) from error
    return read_listed(config, files, listing, problems)


def read_listed(
    config: DataConfig, files: Files, listing: Listing, problems: Sequence[Problem] = ()
) -> Raw:
    """Looks at every file of a listing.

    Args:
        problems: that were found before; they are told with the others.

    Raises:
        InputError: with every problem that was found.
    """
    problems = list(problems) + check_classes(
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
        groups=listing.groups,
        class_splits=listing.class_splits,
    )


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
