"""Pixels of an image file as an image viewer shows them.

The EXIF orientation is applied, transparent pixels are composited on a background, 16 bits are
reduced to 8, CMYK and palettes become RGB, ICC profiles are converted to sRGB, and of animations
and documents with several pages the first picture counts. Conversions are returned with the pixels,
to be reported.
"""

import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from nascore.data.colours import Profile, in_srgb
from nascore.data.endings import formats, signed_formats

# What Pillow raises on files that are damaged, cut short or absurdly large.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    MemoryError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)
WHITE = (255, 255, 255)
MAX_PIXELS = 178_956_970  # Pillow refuses larger images whatever we allow
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_SIXTEEN_BIT_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})
# Formats whose mode `I` means 16 bits; elsewhere it means 32, of which no viewer shows all.
_SIXTEEN_BIT_FORMATS = frozenset({"PNG", "PPM", "JPEG2000"})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNED = (5, 6, 7, 8)  # orientations that swap width and height

# Damaged metadata and large pictures are looked at here; Pillow would print a warning of each.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")

ROTATED = "orientation"
TRANSPARENT = "transparency"
SIXTEEN_BIT = "16-bit"
CMYK = "cmyk"
PROFILE = "icc-profile"
PROFILE_IGNORED = "icc-profile-ignored"
FIRST_FRAME = "first-frame"
ONE_BIT = "1-bit"
PALETTE = "palette"
_OF_MODE = {"1": ONE_BIT, "P": PALETTE, "PA": PALETTE, "CMYK": CMYK}
_OF_PROFILE: dict[Profile, set[str]] = {
    Profile.NONE: set(),
    Profile.APPLIED: {PROFILE},
    Profile.IGNORED: {PROFILE_IGNORED},
}
CONVERSIONS = {
    ROTATED: "were turned or mirrored as their EXIF orientation says",
    TRANSPARENT: "have transparent pixels, which were composited on data.background",
    SIXTEEN_BIT: "have 16 bits a channel, of which the upper 8 were kept",
    CMYK: "are CMYK and were converted to RGB",
    PROFILE: "have an ICC profile and were converted to sRGB",
    PROFILE_IGNORED: "have an ICC profile that is damaged or does not fit them; it was ignored",
    FIRST_FRAME: "hold several frames or pages, of which the first was taken",
    ONE_BIT: "have 1 bit a pixel, which became 0 and 255",
    PALETTE: "have a palette and were converted to RGB",
}


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Format to which all images of a data set are decoded.

    Attributes:
        size: height and width in pixels.
        channels: 1 or 3.
        background: colour behind transparent pixels.
    """

    size: int
    channels: int
    background: tuple[int, int, int] = WHITE


@dataclass(frozen=True, slots=True)
class Header:
    """Properties of an image file from its header.

    Attributes:
        width, height: as a viewer shows it; as stored where `find_orientation` was off.
        mode: Pillow's mode.
        is_deep: more bits a channel than can be converted.
        has_alpha: it may have transparent pixels.
    """

    width: int
    height: int
    mode: str
    is_deep: bool
    has_alpha: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """An image as a viewer shows it.

    Attributes:
        image: of mode L or RGB, in its own size.
        conversions: keys of `CONVERSIONS`.
        peak: largest value of an image with 16-bit grey values, else None.
    """

    image: Image.Image
    conversions: frozenset[str]
    peak: int | None = None


def read_header(source: BinaryIO, *, find_orientation: bool = True) -> Header:
    """Read the header of an image file; no pixel is decoded where that can be avoided.

    Args:
        find_orientation: whether width and height matter.

    Raises:
        OSError: The file is no image that can be read, or too large.
    """
    try:
        with Image.open(source, formats=formats()) as image:
            _check_pixels(image)
            width, height = image.size
            # Pillow applies the orientation of a TIFF by itself, and to its size as well.
            if (
                find_orientation
                and width != height
                and image.format != "TIFF"
                and _orientation(image) in _QUARTER_TURNED
            ):
                width, height = height, width
            return Header(
                width,
                height,
                image.mode,
                is_deep=_is_deep(image),
                has_alpha=_may_be_transparent(image),
            )
    except UNREADABLE as error:
        raise OSError(_reason(error)) from error


def has_image_signature(source: BinaryIO) -> bool:
    """Return whether a file of unknown ending begins like an image."""
    try:
        with Image.open(source, formats=signed_formats()):
            return True
    except UNREADABLE:
        return False


def show(source: BinaryIO, target: PixelFormat) -> Shown:
    """Decode an image as a viewer shows it, in its own size.

    Raises:
        OSError: It is damaged, too large, or has more than 16 bits a channel.
    """
    try:
        with Image.open(source, formats=formats()) as image:
            _check_pixels(image)
            return _shown(image, target)
    except UNREADABLE as error:
        raise OSError(f"cannot decode image ({_reason(error)})") from error


def fit(image: Image.Image, target: PixelFormat) -> NDArray[np.uint8]:
    """Resize an image of mode L or RGB; uint8 (size, size, channels)."""
    size = target.size
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(size, size, target.channels)


# --- one step after the other ---------------------------------------------------------------


def _shown(image: Image.Image, target: PixelFormat) -> Shown:
    done: set[str] = set()
    is_deep_colour = _has_sixteen_bits(image)  # as long as nothing is decoded
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a camera's preview pictures
        done.add(FIRST_FRAME)
        if getattr(image, "default_image", False):
            image.seek(1)  # an animated PNG may bring a picture for viewers that cannot animate
    orientation = _orientation(image)
    if orientation in _TURNS:
        done.add(ROTATED)
        image.load()  # which does it for a TIFF
        image = image if image.format == "TIFF" else image.transpose(_TURNS[orientation])
    peak = None
    if image.mode in _SIXTEEN_BIT_MODES:
        image, peak = _eight_bits(image)
        done.add(SIXTEEN_BIT)
    elif is_deep_colour:
        done.add(SIXTEEN_BIT)
    elif image.mode == "F":
        raise OSError("has floating-point pixels; convert it to 8 or 16 bits")
    if image.mode in _OF_MODE:
        done.add(_OF_MODE[image.mode])
    profile = image.info.get("icc_profile")
    image, alpha = _without_alpha(image)
    image, what = in_srgb(image, profile)
    done |= _OF_PROFILE[what]
    if alpha is not None:
        done.add(TRANSPARENT)
        image = image.convert("RGB")
        image.putalpha(alpha)
        backdrop = Image.new("RGBA", image.size, (*target.background, 255))
        image = Image.alpha_composite(backdrop, image).convert("RGB")
    return Shown(image.convert("L" if target.channels == 1 else "RGB"), frozenset(done), peak)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text has the address of an object
        return "it is no image that can be read"
    return str(error) or type(error).__name__


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise OSError(f"has {width} x {height} pixels, more than the {MAX_PIXELS:,} of an image")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (*UNREADABLE, TypeError):  # damaged metadata; viewers show the picture as it is stored
        return 1


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BIT_FORMATS)


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Return whether Pillow reads a colour image of 16 bits as RGB with the upper 8 bits."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return False
    given = image.tile[0].args
    raw, *rest = given if isinstance(given, tuple) else (given,)
    is_deep_ppm = image.format == "PPM" and bool(rest) and rest[-1] > 0xFF
    return ";16" in str(raw) or is_deep_ppm


def _eight_bits(image: Image.Image) -> tuple[Image.Image, int]:
    """Keep the upper byte of 16-bit values; the alpha of a transparent value goes with it."""
    values = np.asarray(image)
    peak = int(values.max())
    if peak > 0xFFFF or int(values.min()) < 0:
        raise OSError("has more than 16 bits a channel; convert it to 8 or 16 bits")
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        grey = Image.merge("LA", (grey, alpha))
    grey.info["icc_profile"] = image.info.get("icc_profile")
    return grey, peak


def _may_be_transparent(image: Image.Image) -> bool:
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return colours and alpha; the latter None where every pixel is opaque."""
    if _may_be_transparent(image):
        is_grey = image.mode in GREY_MODES
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        opaque = alpha.getextrema()[0] == 255
        return image.convert("RGB").convert("L" if is_grey else "RGB"), None if opaque else alpha
    if image.mode in ("1", "P", "RGBX", "YCbCr", "HSV"):
        return image.convert("L" if image.mode == "1" else "RGB"), None
    return image, None
