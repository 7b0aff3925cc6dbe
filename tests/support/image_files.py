"""Image files of kinds that Pillow reads and does not write, byte by byte."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_PNG = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels


def png_16(values: NDArray[np.uint16], *, transparent: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel from (H, W, C); `transparent` is the content of tRNS."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0)
    chunks = [_chunk(b"IHDR", header)]
    if transparent:
        chunks.append(_chunk(b"tRNS", transparent))
    return b"".join([_PNG, *chunks, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff_16_rgb(values: NDArray[np.uint16]) -> bytes:
    """An uncompressed TIFF of 16 bits a channel from (H, W, 3)."""
    height, width, _ = values.shape
    data = values.astype("<u2").tobytes()
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, 8 + len(data)),  # bits a sample, three times
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    bits = struct.pack("<HHH", 16, 16, 16)
    return b"II*\0" + struct.pack("<I", 8 + len(data) + len(bits)) + data + bits + directory


def jpeg_ycck(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> bytes:
    """A JPEG in Adobe's YCCK that shows one colour."""
    inverted = Image.new("RGB", (1, 1), tuple(255 - value for value in colour))
    luma, blue, red = inverted.convert("YCbCr").getpixel((0, 0))
    file = io.BytesIO()
    # Pillow writes the values of a CMYK picture inverted, as Adobe does.
    Image.new("CMYK", size, (255 - luma, 255 - blue, 255 - red, 0)).save(file, "JPEG", quality=100)
    content = bytearray(file.getvalue())
    content[content.index(b"Adobe") + 11] = 2  # of the transform: 2 is YCCK
    return bytes(content)


def profile_with_red_and_blue_swapped() -> bytes:
    """An ICC profile whose red primary is the blue one of sRGB, and the other way round."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return (
        srgb.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)
    )


def srgb_profile() -> bytes:
    """The profile that most cameras and programs embed."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
