"""From image files to pixels of one size, and what had to be converted on the way."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.content import Content, ContentBuilder, count_values
from nascore.data.files import Entry, Files
from nascore.data.findings import Finding, Findings, Tally, finding
from nascore.data.parallel import in_threads
from nascore.data.pixels import CONVERSIONS, SIXTEEN_BIT, UNREADABLE, PixelFormat, fit, show
from nascore.data.raw import Raw

__all__ = ["UNREADABLE", "Scan", "decode_all", "decode_one", "scan"]

_BYTES_IN_FLIGHT = 64 * 2**20
_DARK = 4096  # of 65,536: what only reaches this far is nearly black with 8 bits


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Pixels uint8 (S, S, C) of a file, what was converted, and why it cannot be decoded."""

    pixels: NDArray[np.uint8] | None
    conversions: frozenset[str] = frozenset()
    peak: int | None = None
    fault: str = ""


def decode_one(source: BinaryIO, target: PixelFormat) -> NDArray[np.uint8]:
    """One image as uint8 (size, size, channels). Raises OSError when it is damaged."""
    return fit(show(source, target).image, target)


def decode_all(
    files: Files,
    entries: Sequence[Entry],
    target: PixelFormat,
    *,
    readable: NDArray[np.bool_],
    config: DataConfig,
    findings: Findings,
) -> NDArray[np.uint8]:
    """All files as uint8 (N, size, size, channels).

    Args:
        readable: which files have a header that could be read; the others are skipped, and those
            that cannot be decoded are marked.
    """
    images = np.zeros((len(entries), target.size, target.size, target.channels), np.uint8)
    tallies = _Tallies(config)
    places = np.flatnonzero(readable).tolist()
    for place, found in zip(
        places, _decoded(files, [entries[p] for p in places], target), strict=True
    ):
        tallies.add(entries[place], found)
        if found.pixels is None:
            readable[place] = False
        else:
            images[place] = found.pixels
    tallies.report(findings)
    return images


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over streamed files found.

    Attributes:
        histogram: int64 (channels, 256), pixel values of the counted images.
        pixels_sha256: digest of shape and pixels, the same as if they were in memory.
        content: what identifies each image.
    """

    histogram: NDArray[np.int64]
    pixels_sha256: "hashlib._Hash"
    content: Content


def scan(raw: Raw, *, counted: NDArray[np.int64], config: DataConfig, findings: Findings) -> Scan:
    """Decode every file of a streamed source once, keeping nothing of it in memory.

    It costs what one epoch's reading costs, finds damaged files before any training, and makes
    the statistics exact.

    Args:
        counted: positions of the images whose pixels enter the histogram.
    """
    assert raw.files is not None
    target = raw.pixel_format(config)
    is_counted = np.zeros(len(raw.entries), bool)
    is_counted[counted] = True
    tallies = _Tallies(config)
    digest = hashlib.sha256(str((len(raw.entries), raw.size, raw.size, raw.channels)).encode())
    builder = ContentBuilder(len(raw.entries))
    histogram = np.zeros((raw.channels, 256), np.int64)
    for place, found in enumerate(_decoded(raw.files, raw.entries, target)):
        tallies.add(raw.entries[place], found)
        if found.pixels is None:
            continue
        builder.add(place, found.pixels[None])
        digest.update(found.pixels.data)
        if is_counted[place]:
            histogram += count_values(found.pixels)
    tallies.report(findings)
    return Scan(histogram, digest, builder.result())


def histogram_of(raw: Raw, positions: NDArray[np.int64], config: DataConfig) -> NDArray[np.int64]:
    """Pixel values of a few streamed images, which have been decoded before."""
    assert raw.files is not None
    histogram = np.zeros((raw.channels, 256), np.int64)
    entries = [raw.entries[place] for place in positions]
    for found in _decoded(raw.files, entries, raw.pixel_format(config)):
        if found.pixels is not None:
            histogram += count_values(found.pixels)
    return histogram


def _decoded(files: Files, entries: Sequence[Entry], target: PixelFormat) -> Iterator[_Decoded]:
    def one(entry: Entry) -> _Decoded:
        try:
            with files.open(entry) as file:
                shown = show(file, target)
            return _Decoded(fit(shown.image, target), shown.conversions, shown.peak)
        except OSError as error:
            return _Decoded(None, fault=str(error))

    chunk = max(64, min(4096, _BYTES_IN_FLIGHT // (target.size**2 * target.channels)))
    yield from in_threads(
        one, entries, threads=files.num_threads, chunk=chunk, what="images decoded"
    )


class _Tallies:
    """Damaged files and conversions, counted."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._faults = Tally()
        self._conversions: dict[str, Tally] = {}
        self._peak = 0

    def add(self, entry: Entry, found: _Decoded) -> None:
        if found.fault:
            self._faults.add(entry.name, found.fault)
        for kind in found.conversions:
            self._conversions.setdefault(kind, Tally()).add(entry.name)
        self._peak = max(self._peak, found.peak or 0)

    def report(self, findings: Findings) -> None:
        if self._faults.count:
            findings.problems.append(unreadable(self._faults, self._config))
        for kind, text in CONVERSIONS.items():
            tally = self._conversions.get(kind)
            if tally is not None:
                message = f"{{count}} images {text}: {{examples}}"
                findings.warnings.append(self._finding(f"converted-{kind}", message, tally))
        tally = self._conversions.get(SIXTEEN_BIT)
        if tally is not None and 0 < self._peak < _DARK:
            message = (
                f"images of 16 bits reach {self._peak} of 65,535 only, and are nearly black with 8 "
                "bits: {examples}; scale them to the whole range"
            )
            findings.warnings.append(self._finding("dark-16-bit", message, tally))

    def _finding(self, kind: str, message: str, tally: Tally) -> Finding:
        return finding(self._config, kind, message, tally.examples, count=tally.count)


def unreadable(tally: Tally, config: DataConfig) -> Finding:
    """Files that are damaged, or no images in spite of their ending."""
    message = "cannot read {examples}; repair or remove them"
    return finding(
        config, "unreadable", message, tally.examples, count=tally.count, shown=tally.shown
    )
