"""HTML file with sample images of each class and the findings, which loads nothing."""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.decoding import decode_one
from nascore.data.findings import Finding
from nascore.data.grouping import part_of
from nascore.data.inspection import Inspected
from nascore.data.pictures import data_uri
from nascore.data.raw_dataset import Raw

_PER_CLASS = 8
_MOST_CLASSES = 60
_SIDE = 96  # pixels at which an image is shown
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em;max-width:70em}"
    "img{image-rendering:pixelated;margin:2px;border:1px solid #ccc}"
    "td,th{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}.problem{color:#b00020}"
)


def page(
    found: Inspected,
    problems: Sequence[Finding],
    warnings: Sequence[Finding],
    config: DataConfig,
) -> str:
    """Return the page; images are shown as networks see them."""
    raw = found.raw
    title = html.escape(
        f"{config.source}: {len(raw.labels):,} images of {len(raw.classes)} classes"
    )
    rows = [
        f'<tr class="{state}"><td>{state}</td><td>{html.escape(one.kind)}</td>'
        f"<td>{html.escape(one.message)}</td></tr>"
        for state, those in (("problem", problems), ("warning", warnings))
        for one in those
    ]
    part = part_of(found.indices, len(raw.labels))
    sections = [
        _section(raw, label, part, config) for label in range(min(len(raw.classes), _MOST_CLASSES))
    ]
    rest = len(raw.classes) - len(sections)
    more = f"<p>and {rest} more classes</p>" if rest > 0 else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1><table>{''.join(rows)}</table>"
        f"{''.join(sections)}{more}</html>"
    )


def _section(raw: Raw, label: int, part: NDArray[np.int64], config: DataConfig) -> str:
    places = np.flatnonzero(raw.labels == label)
    counts = ", ".join(
        f"{name} {int((part[places] == number).sum()):,}"
        for number, name in enumerate(("train", "valid", "test"))
    )
    chosen = places[np.linspace(0, len(places) - 1, min(_PER_CLASS, len(places))).astype(int)]
    images = "".join(_image(raw, int(place), config) for place in chosen)
    return f"<h2>{html.escape(raw.classes[label])}</h2><p>{counts}</p><p>{images}</p>"


def _image(raw: Raw, place: int, config: DataConfig) -> str:
    pixels = _pixels(raw, place, config)
    if pixels is None:
        return ""
    uri = data_uri(pixels.transpose(2, 0, 1))
    name = html.escape(raw.name_of(place), quote=True)
    return f'<img src="{uri}" width="{_SIDE}" height="{_SIDE}" alt="{name}" title="{name}">'


def _pixels(raw: Raw, place: int, config: DataConfig) -> NDArray[np.uint8] | None:
    if raw.readable is not None and not raw.readable[place]:
        return None
    if raw.images is not None:
        pixels: NDArray[np.uint8] = raw.images[place]
        return pixels
    assert raw.files is not None
    try:
        with raw.files.open(raw.entries[place]) as file:
            return decode_one(file, raw.pixel_format(config))
    except OSError:  # it is one of the problems above
        return None
