"""Small image folders for tests: pictures that differ, files by name."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee")


def picture(number: int, *, size: int = 8, mode: str = "RGB") -> Image.Image:
    """A picture that no other number has."""
    shape = (size, size) if mode == "L" else (size, size, 3)
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8))


def content(number: int, kind: str = "PNG", *, size: int = 8, mode: str = "RGB") -> bytes:
    """The same as the content of a file."""
    file = io.BytesIO()
    settings = {"WEBP": {"lossless": True, "exact": True}}.get(kind, {})
    picture(number, size=size, mode=mode).save(file, kind, **settings)
    return file.getvalue()


def write(root: Path, names: Iterable[str], *, first: int = 0, size: int = 8) -> Path:
    """Pictures with these names, of the kind that their endings tell (PNG where they have none)."""
    for number, name in enumerate(names, start=first):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = path.suffix.lower()
        kind = Image.registered_extensions().get(ending, "PNG")
        path.write_bytes(content(number, kind, size=size))
    return root


def names(folder: str = "", *, classes: Iterable[str] = CLASSES, count: int = 5) -> list[str]:
    """`FOLDER/CLASS/NUMBER.png`."""
    prefix = f"{folder}/" if folder else ""
    return [f"{prefix}{name}/{number}.png" for name in classes for number in range(count)]
