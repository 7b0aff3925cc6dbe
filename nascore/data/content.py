"""Identification of images by their pixels: a digest, and a perceptual hash that copies share.

N images, S height and width, C channels.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nascore.data.mapped import chunks

DIGEST_BYTES = 16
HASH_BYTES = 16
LEAST_SIZE = 16  # of images whose perceptual hash means anything
_GRID = 9  # 8 differences in a row and in a column
_LEAST_STEP = 2.0  # levels; smaller differences are noise of compression
_LEAST_TEXTURE = 24  # of 128 differences; a blank page resembles every other
_CHUNK = 1024
_PIXELS = 2**20
_MIN_STD = 1e-3  # a channel that is constant is centred, and not divided by zero


@dataclass(frozen=True, slots=True)
class Content:
    """Digests and hashes of N images.

    Attributes:
        digests: uint8 (N, 16), equal for equal pixels.
        hashes: uint8 (N, 16), nearly equal bits for pictures that look alike.
        has_hash: bool (N,), whether the image has enough structure for a hash.
        is_constant: bool (N,), whether all pixels are the same.
        is_known: bool (N,), whether the image could be decoded.
    """

    digests: NDArray[np.uint8]
    hashes: NDArray[np.uint8]
    has_hash: NDArray[np.bool_]
    is_constant: NDArray[np.bool_]
    is_known: NDArray[np.bool_]


class ContentBuilder:
    """Builder of `Content` from a few images at a time."""

    def __init__(self, count: int) -> None:
        self._content = Content(
            np.zeros((count, DIGEST_BYTES), np.uint8),
            np.zeros((count, HASH_BYTES), np.uint8),
            *(np.zeros(count, bool) for _ in range(3)),
        )

    def add(self, start: int, images: NDArray[np.uint8]) -> None:
        """Take uint8 (n, S, S, C), whose first is image number `start`."""
        content, end = self._content, start + len(images)
        for place, image in enumerate(images, start=start):
            digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()[:DIGEST_BYTES]
            content.digests[place] = np.frombuffer(digest, np.uint8)
        flat = images.reshape(len(images), -1, images.shape[-1])
        content.is_constant[start:end] = (flat == flat[:, :1]).all(axis=(1, 2))
        content.is_known[start:end] = True
        if images.shape[1] >= LEAST_SIZE:
            hashes, texture = perceptual_hashes(images)
            content.hashes[start:end] = hashes
            content.has_hash[start:end] = texture >= _LEAST_TEXTURE

    def result(self) -> Content:
        """Return the content of all images that were added."""
        return self._content


def content_of(images: NDArray[np.uint8], readable: NDArray[np.bool_] | None = None) -> Content:
    """Return the content of images uint8 (N, S, S, C) in memory.

    Args:
        readable: which of them could be decoded; by default all.
    """
    builder = ContentBuilder(len(images))
    start = 0
    for chunk in chunks(images, _CHUNK):
        builder.add(start, chunk)
        start += len(chunk)
    content = builder.result()
    if readable is not None:
        content.is_known[:] = readable
    return content


def perceptual_hashes(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the signs of brightness differences on a coarse grid (N. Krawetz, "Kind of Like That",
    2013).

    Returns:
        uint8 (N, 16): 64 differences to the right and 64 downwards, a bit each; and int64 (N,), how
        many of them are more than noise.
    """
    grey_NSS = images.mean(axis=-1, dtype=np.float32)
    weights_GS = _area_weights(grey_NSS.shape[1])
    coarse_NGG = weights_GS @ grey_NSS @ weights_GS.T
    right = coarse_NGG[:, :-1, 1:] - coarse_NGG[:, :-1, :-1]
    down = coarse_NGG[:, 1:, :-1] - coarse_NGG[:, :-1, :-1]
    steps = np.concatenate([right.reshape(len(images), -1), down.reshape(len(images), -1)], axis=1)
    texture = (np.abs(steps) > _LEAST_STEP).sum(axis=1)
    return np.packbits(steps > _LEAST_STEP, axis=1), texture


def _area_weights(size: int) -> NDArray[np.float32]:
    """Return rows that average the pixels of each grid cell, cut pixels in proportion."""
    edges = np.linspace(0, size, _GRID + 1)
    pixels = np.arange(size)
    low = np.maximum(pixels, edges[:-1, None])
    high = np.minimum(pixels + 1, edges[1:, None])
    overlap = np.maximum(high - low, 0)
    weights: NDArray[np.float32] = overlap / overlap.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def count_values(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the histogram of values 0..255 by channel: (..., C) -> int64 (C, 256)."""
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    # bincount works on a copy that takes eight times as much memory.
    for pixels in chunks(images.reshape(-1, channels), _PIXELS):
        counts += [np.bincount(pixels[:, c], minlength=256) for c in range(channels)]
    return counts


def statistics_of(histogram: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of pixel / 255, (C,) each.

    Args:
        histogram: (C, 256), see `count_values`.
    """
    values = np.arange(256) / 255
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.maximum(np.sqrt(variance), _MIN_STD)
