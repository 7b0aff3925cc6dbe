"""Decoding of image files to pixels of one size, with a report of conversions and damage."""

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.cache import DecodedCache, cache_key
from nascore.data.content import Content, ContentBuilder, count_values
from nascore.data.file_access import FileEntry, Files, to_lines
from nascore.data.findings import KEY, Finding, Findings, Tally, finding, refusal
from nascore.data.mapped import CHUNK, blank, chunks, in_chunk, release
from nascore.data.parallel import in_parallel
from nascore.data.pixels import CONVERSIONS, SIXTEEN_BIT, UNREADABLE, PixelFormat, fit, show
from nascore.data.raw_dataset import Raw

__all__ = ["UNREADABLE", "Scan", "decode_all", "decode_blocks", "decode_one", "scan"]

_BYTES_IN_FLIGHT = 64 * 2**20
_BLOCK_BYTES = 16 * 2**20
_DARK = 4096  # of 65,536: what only reaches this far is nearly black with 8 bits


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Pixels uint8 (S, S, C) of a file, its conversions, and why it cannot be decoded."""

    pixels: NDArray[np.uint8] | None
    conversions: frozenset[str] = frozenset()
    peak: int | None = None
    fault: str = ""


def decode_one(source: BinaryIO, target: PixelFormat) -> NDArray[np.uint8]:
    """Return one image as uint8 (size, size, channels).

    Raises:
        OSError: It is damaged.
    """
    return fit(show(source, target).image, target)


def decode_all(
    files: Files,
    entries: Sequence[FileEntry],
    target: PixelFormat,
    *,
    readable: NDArray[np.bool_],
    config: DataConfig,
    findings: Findings,
) -> NDArray[np.uint8]:
    """Return all files as uint8 (N, size, size, channels); a large array is a mapped file.

    Args:
        readable: which files have a header that could be read; the others are skipped, and those
            that cannot be decoded are marked.
    """
    try:
        images = blank((len(entries), target.size, target.size, target.channels))
    except OSError as error:
        message = f"does not fit decoded on the disk of {tempfile.gettempdir()} ({error})"
        advice = "free some, set TMPDIR to another disk, or make data.image_size smaller"
        raise refusal(config, "too-large", f"{message}; {advice}") from error
    tallies = _Tallies(config)
    places = np.flatnonzero(readable).tolist()
    for count, (place, found) in enumerate(
        zip(places, _decoded(files, [entries[p] for p in places], target), strict=True), start=1
    ):
        tallies.add(entries[place], found)
        if found.pixels is None:
            readable[place] = False
        else:
            images[place] = found.pixels
        if count % in_chunk(images) == 0:
            release(images)
    tallies.report(findings)
    return images


@dataclass(frozen=True, slots=True)
class Scan:
    """Result of one pass over streamed files.

    Attributes:
        histogram: int64 (channels, 256), pixel values of the counted images.
        pixels_sha256: digest of shape and pixels, the same as if they were in memory.
        content: digests and hashes of the images.
    """

    histogram: NDArray[np.int64]
    pixels_sha256: "hashlib._Hash"
    content: Content


def scan(
    raw: Raw,
    *,
    counted: NDArray[np.int64],
    config: DataConfig,
    findings: Findings,
    cache: DecodedCache | None = None,
) -> Scan:
    """Decode every file of a streamed source once, keeping nothing of it in memory.

    It takes as long as reading one epoch, finds damaged files before any training, and makes the
    statistics exact.

    Args:
        counted: positions of the images whose pixels enter the histogram.
        cache: stores the pixels for training.
    """
    assert raw.files is not None
    target = raw.pixel_format(config)
    is_counted = np.zeros(len(raw.entries), bool)
    is_counted[counted] = True
    digest = hashlib.sha256(str((len(raw.entries), raw.size, raw.size, raw.channels)).encode())
    builder = ContentBuilder(len(raw.entries))
    histogram = np.zeros((raw.channels, 256), np.int64)
    for start, images in decode_blocks(
        raw.files, raw.entries, target, config=config, findings=findings, cache=cache
    ):
        builder.add(start, images)
        digest.update(images.data)
        histogram += count_values(images[is_counted[start : start + len(images)]])
    return Scan(histogram, digest, builder.result())


def histogram_of(raw: Raw, positions: NDArray[np.int64], config: DataConfig) -> NDArray[np.int64]:
    """Return the histogram of a few streamed images that have been decoded before."""
    assert raw.files is not None
    histogram = np.zeros((raw.channels, 256), np.int64)
    entries = [raw.entries[place] for place in positions]
    for found in _decoded(raw.files, entries, raw.pixel_format(config)):
        if found.pixels is not None:
            histogram += count_values(found.pixels)
    return histogram


def decode_blocks(
    files: Files,
    entries: Sequence[FileEntry],
    target: PixelFormat,
    *,
    config: DataConfig,
    findings: Findings,
    cache: DecodedCache | None,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Number of the first image, and some images (n, size, size, channels), until the last.

    Files that cannot be decoded are left out and reported as problems.

    Args:
        cache: images in it are not decoded again; others are added to it.
    """
    tallies = _Tallies(config)
    blocks = _stacked(entries, _decoded(files, entries, target), tallies, target)
    key = cache_key(files.root, to_lines(entries), target) if cache is not None else None
    if cache is None or key is None:
        yield from blocks
        tallies.report(findings)
        return
    shape = (len(entries), target.channels, target.size, target.size)
    with cache.locked(key) as is_usable:
        kept = cache.open(key, shape, whole=True) if is_usable else None
        if kept is None:
            writer = cache.writer(key, shape) if is_usable else None
            with writer or contextlib.nullcontext():
                for start, images in blocks:
                    if writer is not None:
                        writer.add(images)
                    yield start, images
                remarks = tallies.report(findings)
                if writer is not None:
                    writer.finish([remark.to_dict() for remark in remarks])
            if is_usable and writer is None:
                findings.warnings.append(_not_kept(shape, config))
            return
    images, remarks_known = kept
    findings.warnings += [_remark(known, config) for known in remarks_known]
    start = 0
    for chunk in chunks(images):
        yield start, np.ascontiguousarray(chunk.transpose(0, 2, 3, 1))
        start += len(chunk)


def _remark(known: Mapping[str, Any], config: DataConfig) -> Finding:
    """Return a finding that was stored with decoded images."""
    fields = known["kind"], known["count"], tuple(known["examples"])
    return Finding(KEY, config.source, known["message"], *fields)


def _not_kept(shape: Sequence[int], config: DataConfig) -> Finding:
    needed = -(-math.prod(shape) // 2**20)
    message = (
        f"the decoded images take {needed:,} MB, for which there is no room in the cache: each "
        "training decodes the files again; raise data.decoded_cache_mb, free disk space there, or "
        "make data.image_size smaller"
    )
    return finding(config, "not-cached", message, count=shape[0])


def _stacked(
    entries: Sequence[FileEntry],
    found: Iterator[_Decoded],
    tallies: "_Tallies",
    target: PixelFormat,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield neighbours in one array; a file that cannot be decoded ends one."""
    most = max(1, min(CHUNK, _BLOCK_BYTES // (target.size**2 * target.channels)))
    waiting: list[NDArray[np.uint8]] = []
    place = -1
    for place, one in enumerate(found):
        tallies.add(entries[place], one)
        if one.pixels is not None:
            waiting.append(one.pixels)
        if waiting and (one.pixels is None or len(waiting) == most):
            last = place - (one.pixels is None)
            yield last + 1 - len(waiting), np.stack(waiting)
            waiting = []
    if waiting:
        yield place + 1 - len(waiting), np.stack(waiting)


def _decoded(files: Files, entries: Sequence[FileEntry], target: PixelFormat) -> Iterator[_Decoded]:
    def one(entry: FileEntry) -> _Decoded:
        try:
            with files.open(entry) as file:
                shown = show(file, target)
            return _Decoded(fit(shown.image, target), shown.conversions, shown.peak)
        except OSError as error:
            return _Decoded(None, fault=str(error))

    chunk = max(64, min(4096, _BYTES_IN_FLIGHT // (target.size**2 * target.channels)))
    yield from in_parallel(
        one, entries, threads=files.num_threads, chunk=chunk, what="images decoded"
    )


class _Tallies:
    """Counts of damaged files and conversions."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._faults = Tally()
        self._conversions: dict[str, Tally] = {}
        self._peak = 0

    def add(self, entry: FileEntry, found: _Decoded) -> None:
        """Count a decoded file."""
        if found.fault:
            self._faults.add(entry.name, found.fault)
        for kind in found.conversions:
            self._conversions.setdefault(kind, Tally()).add(entry.name)
        self._peak = max(self._peak, found.peak or 0)

    def report(self, findings: Findings) -> list[Finding]:
        """Report problems and remarks, and return the remarks."""
        remarks = []
        if self._faults.count:
            findings.problems.append(unreadable(self._faults, self._config))
        for kind, text in CONVERSIONS.items():
            tally = self._conversions.get(kind)
            if tally is not None:
                message = f"{{count}} images {text}: {{examples}}"
                remarks.append(self._finding(f"converted-{kind}", message, tally))
        tally = self._conversions.get(SIXTEEN_BIT)
        if tally is not None and 0 < self._peak < _DARK:
            message = (
                f"images of 16 bits reach {self._peak} of 65,535 only, and are nearly black with 8 "
                "bits: {examples}; scale them to the whole range"
            )
            remarks.append(self._finding("dark-16-bit", message, tally))
        findings.warnings += remarks
        return remarks

    def _finding(self, kind: str, message: str, tally: Tally) -> Finding:
        return finding(self._config, kind, message, tally.examples, count=tally.count)


def unreadable(tally: Tally, config: DataConfig) -> Finding:
    """Return the finding about files that are damaged, or no images despite their names."""
    message = "cannot read {examples}; repair or remove them"
    return tally.finding(config, "unreadable", message)
