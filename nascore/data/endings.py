"""File name endings: images, descriptions of the data, and files of tools."""

import importlib
import importlib.util
from functools import cache
from pathlib import PurePosixPath

from PIL import Image

# Formats that Pillow opens and that are no images here: EPS would start another program, the others
# need a library that is not installed with Pillow, or are videos.
_NOT_OPENED = frozenset(
    {"BUFR", "EPS", "FPX", "GRIB", "HDF5", "IPTC", "MIC", "MPEG", "SPIDER", "WMF"}
)
_USUAL = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # are tried first
_SIGNED = frozenset({*_USUAL, "AVIF", "HEIF", "JPEG2000", "QOI"})
# Put there by operating systems, editors and servers, never by whoever made the data.
_TOOL_FOLDERS = frozenset(
    {"__macosx", "@eadir", "__pycache__", "$recycle.bin", "system volume information"}
)
_TOOL_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "_success", "icon\r"})
# Descriptions and annotations that lie next to images; no image is left out with them.
_TEXTS = frozenset(
    {
        *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".yaml"),
        *(".yml", ".toml", ".ini", ".cfg", ".html", ".htm", ".css", ".js", ".log", ".parquet"),
        *(".arrow", ".py", ".ipynb", ".sh", ".m", ".db", ".sqlite", ".sha256", ".md5", ".pdf"),
        *(".doc", ".docx", ".xls", ".xlsx", ".bib", ".lock", ".names", ".data", ".license"),
    }
)
_TEXT_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "makefile", "classes", "labels", "authors"}
)


@cache
def formats() -> tuple[str, ...]:
    """Return the formats that are opened, by Pillow's names."""
    _plug_in()
    Image.init()
    usual = [name for name in _USUAL if name in Image.OPEN]
    return (*usual, *sorted(set(Image.OPEN) - _NOT_OPENED - set(usual)))


@cache
def signed_formats() -> tuple[str, ...]:
    """Return the formats that the first bytes of a file identify."""
    return tuple(name for name in formats() if name in _SIGNED)


@cache
def image_endings() -> frozenset[str]:
    """Return the endings of files that are opened, in lower case and with their dot."""
    opened = set(formats())
    return frozenset(e for e, name in Image.registered_extensions().items() if name in opened)


def ending(name: str) -> str:
    """Return the ending of a file, in lower case and with its dot; empty where there is none."""
    return PurePosixPath(name).suffix.lower()


def is_image(name: str) -> bool:
    """Return whether a file is an image by its name."""
    last = name.rpartition("/")[2]
    return not is_of_tool(last) and ending(last) in image_endings()


def is_of_tool(name: str, *, is_folder: bool = False) -> bool:
    """Return whether a file or folder of this name is hidden or made by a tool."""
    known = _TOOL_FOLDERS if is_folder else _TOOL_FILES
    return name.startswith((".", "~$", "._")) or name.lower() in known or name.endswith("$folder$")


def is_text(name: str) -> bool:
    """Return whether a file of this name describes data and cannot be meant as an image."""
    last = name.rpartition("/")[2].lower()
    return ending(last) in _TEXTS or last.partition(".")[0] in _TEXT_NAMES


def _plug_in() -> None:
    """Let Pillow read HEIC where pillow-heif is installed; we do not depend on it."""
    if importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()
