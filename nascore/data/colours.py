"""Conversion of colours to sRGB by the ICC profile of a file."""

import enum
import io
from functools import cache, lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_SAME_COLOURS = 2  # levels by which a profile may differ from sRGB and still be called the same
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_BAD_PROFILE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


class Profile(enum.Enum):
    """What was done with the profile of an image."""

    NONE = enum.auto()
    APPLIED = enum.auto()
    IGNORED = enum.auto()


def in_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, Profile]:
    """Convert an image without alpha to sRGB: mode RGB, or L where it was grey.

    A profile that is damaged or made for other colours than those of the image is ignored, as
    image viewers do.
    """
    if image.mode == "LAB":
        return _applied(_lab_transform(), image), Profile.APPLIED
    done = Profile.NONE
    if profile:
        space = _colour_space(profile)
        if space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        transform = _transform(profile, image.mode) if space == _SPACES.get(image.mode) else None
        if transform is None:
            done = Profile.IGNORED
        elif not _is_identity(profile, image.mode):
            return _applied(transform, image), Profile.APPLIED
    return (image if image.mode in ("L", "RGB") else image.convert("RGB")), done


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


def _colour_space(profile: bytes) -> str | None:
    try:
        opened: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
        return str(opened.xcolor_space).strip()
    except _BAD_PROFILE:
        return None


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the stateless transform to sRGB; None for an unusable profile."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(opened, _srgb(), mode, "RGB", flags=ImageCms.Flags.NOCACHE)
    except _BAD_PROFILE:
        return None


@lru_cache(maxsize=32)
def _is_identity(profile: bytes, mode: str) -> bool:
    """Return whether the profile is sRGB, by applying it to colours of the whole cube."""
    if mode == "CMYK":
        return False
    transform = _transform(profile, mode)
    assert transform is not None
    levels = np.linspace(0, 255, 17 if mode == "RGB" else 256).astype(np.uint8)
    if mode == "RGB":
        probe = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(17, -1, 3)
        wanted = probe
    else:
        probe = levels[None]
        wanted = np.repeat(probe[..., None], 3, axis=-1)
    found = np.asarray(_applied(transform, Image.fromarray(probe)))
    return int(np.abs(found.astype(int) - wanted).max()) <= _SAME_COLOURS


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab_transform() -> ImageCms.ImageCmsTransform:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return ImageCms.buildTransform(lab, _srgb(), "LAB", "RGB", flags=ImageCms.Flags.NOCACHE)
