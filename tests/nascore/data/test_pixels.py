"""Image files as a viewer shows them: each kind is written here, and its pixels are known."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import (
    jpeg_ycck,
    png_16,
    profile_with_red_and_blue_swapped,
    srgb_profile,
    tiff_16_rgb,
)
from PIL import Image

from nascore.config import DataConfig
from nascore.data import pixels
from nascore.data.findings import Findings
from nascore.data.pixels import PixelFormat, Shown, read_header, show
from nascore.data.raw_dataset import Raw
from nascore.data.sources import read
from nascore.errors import InputError

RGB = PixelFormat(8, 3)
GREY = PixelFormat(8, 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
# What a viewer shows of `PIXELS` when it is stored with each orientation (EXIF 2.3, tag 0x0112).
TURNED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, -1),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS),
}
LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("WEBP", {"lossless": True, "exact": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


def saved(image: Image.Image, kind: str, **settings: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    file.seek(0)
    return file


def shown(image: Image.Image, kind: str, target: PixelFormat = RGB, **settings: Any) -> Shown:
    return show(saved(image, kind, **settings), target)


def pixels_of(found: Shown) -> np.ndarray:
    return np.asarray(found.image)


# --- orientation ------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "settings"), LOSSLESS)
def test_orientation_is_applied(orientation: int, kind: str, settings: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(Image.fromarray(PIXELS), kind, exif=exif, **settings)
    found = show(file, RGB)
    assert np.array_equal(pixels_of(found), TURNED[orientation])
    assert found.conversions == ({"orientation"} if orientation > 1 else set())
    file.seek(0)
    header = read_header(file)
    assert (header.height, header.width) == TURNED[orientation].shape[:2]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(("kind", "settings"), [("JPEG", {"quality": 100}), ("AVIF", {})])
def test_orientation_of_lossy_kinds(orientation: int, kind: str, settings: dict[str, Any]) -> None:
    smooth = np.linspace(0, 255, 16 * 24).reshape(16, 24).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = pixels_of(shown(Image.fromarray(smooth), kind, GREY, exif=exif, **settings))
    wanted = {1: smooth, 3: smooth[::-1, ::-1], 6: np.rot90(smooth, -1), 8: np.rot90(smooth)}
    assert found.shape == wanted[orientation].shape
    assert np.abs(found.astype(int) - wanted[orientation]).max() <= 12


def test_photographs_of_one_camera_have_one_size(tmp_path: Path) -> None:
    """Held upright and across, they are stored alike: shown, they are of two sizes."""
    for name in ("ant", "bee"):
        for number in range(4):
            exif = Image.Exif()
            exif[0x0112] = 6 if number % 2 else 1
            path = tmp_path / name / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.tile(PIXELS, (2, 2, 1))).save(path, exif=exif)
    with pytest.raises(InputError, match=r"differ in size \(2 sizes: ant/0.jpg is 18x12 and ant/1"):
        read(DataConfig(source=f"imagefolder:{tmp_path}"))
    assert read(DataConfig(source=f"imagefolder:{tmp_path}", image_size=8)).size == 8


@pytest.mark.parametrize("exif", [b"Exif\0\0damaged", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"\0"])
def test_damaged_metadata_hides_no_picture(exif: bytes) -> None:
    found = shown(Image.fromarray(PIXELS), "PNG", exif=exif)
    assert np.array_equal(pixels_of(found), PIXELS)


# --- transparency -----------------------------------------------------------------------------


@pytest.mark.parametrize("below", [(0, 0, 0), (255, 0, 0)])
@pytest.mark.parametrize(("kind", "settings"), LOSSLESS)
def test_transparent_pixels_show_the_background(
    below: tuple[int, int, int], kind: str, settings: dict[str, Any]
) -> None:
    image = Image.new("RGBA", (4, 4), (*below, 0))
    image.paste((0, 100, 0, 255), (0, 0, 2, 4))
    image.putpixel((3, 3), (0, 0, 0, 128))
    target = PixelFormat(4, 3, background=(200, 0, 100))
    found = shown(image, kind, target, **settings)
    pixels = pixels_of(found)
    assert pixels[0, 0].tolist() == [0, 100, 0]
    assert pixels[0, 3].tolist() == [200, 0, 100]
    assert np.abs(pixels[3, 3].astype(int) - [100, 0, 50]).max() <= 1
    assert found.conversions == {"transparency"}


def test_transparency_of_a_palette_and_of_a_colour() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((0, 0), 0)
    found = shown(palette, "PNG", transparency=1)
    assert pixels_of(found)[0, 0].tolist() == [255, 0, 0]
    assert pixels_of(found)[1, 1].tolist() == [255, 255, 255]
    assert found.conversions == {"transparency", "palette"}
    colour = Image.new("RGB", (4, 4), (1, 2, 3))
    assert set(pixels_of(shown(colour, "PNG", transparency=(1, 2, 3))).ravel()) == {255}
    assert set(pixels_of(shown(palette, "GIF", transparency=1))[1, 1]) == {255}


def test_grey_with_alpha_stays_grey() -> None:
    image = Image.new("LA", (4, 4), (10, 0))
    image.putpixel((0, 0), (70, 255))
    found = shown(image, "PNG", GREY)
    assert found.image.mode == "L"
    assert pixels_of(found)[0].tolist() == [70, 255, 255, 255]


def test_opaque_alpha_is_not_reported() -> None:
    found = shown(Image.new("RGBA", (4, 4), (1, 2, 3, 255)), "PNG")
    assert found.conversions == set()
    assert pixels_of(found)[0, 0].tolist() == [1, 2, 3]


# --- depth ------------------------------------------------------------------------------------

DEEP = np.arange(96, dtype=np.uint16).reshape(4, 8, 3) * 680


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_keeps_its_upper_byte(channels: int) -> None:
    target = PixelFormat(8, channels)
    found = show(io.BytesIO(png_16(DEEP[..., :channels])), target)
    assert np.array_equal(pixels_of(found).reshape(4, 8, channels), DEEP[..., :channels] >> 8)
    assert found.conversions == {"16-bit"}


def test_16_bit_png_with_alpha() -> None:
    values = np.zeros((2, 2, 4), np.uint16)
    values[0] = (0x4000, 0x8000, 0xC000, 0xFFFF)
    pixels = pixels_of(show(io.BytesIO(png_16(values)), RGB))
    assert pixels[0, 0].tolist() == [0x40, 0x80, 0xC0]
    assert pixels[1, 1].tolist() == [255, 255, 255]
    key = (1000).to_bytes(2, "big")
    grey = np.array([[[1000], [40_000]]], np.uint16)
    found = show(io.BytesIO(png_16(grey, transparent=key)), GREY)
    assert pixels_of(found)[0].tolist() == [255, 40_000 >> 8]


def test_16_bit_tiff_keeps_its_upper_byte() -> None:
    found = show(io.BytesIO(tiff_16_rgb(DEEP)), RGB)
    assert np.array_equal(pixels_of(found), DEEP >> 8)
    assert found.conversions == {"16-bit"}
    grey = shown(Image.fromarray(DEEP[..., 0]), "TIFF", GREY)
    assert np.array_equal(pixels_of(grey), DEEP[..., 0] >> 8)


def test_8_bit_values_in_16_bits_are_reported_to_be_dark(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.full((4, 4, 1), 200 + number, np.uint16)
            (tmp_path / name / f"{number}.png").write_bytes(png_16(pixels))
    findings = Findings()
    read(DataConfig(source=f"imagefolder:{tmp_path}"), None, findings)
    reported = {warning.kind: warning.message for warning in findings.warnings}
    assert reported["dark-16-bit"].startswith("images of 16 bits reach 202 of 65,535 only")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_more_than_16_bits_are_refused(mode: str) -> None:
    with pytest.raises(OSError, match="16 bits"):
        shown(Image.new(mode, (4, 4), 70_000), "TIFF", GREY)


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.new("1", (4, 4), 0)
    image.putpixel((1, 1), 1)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        found = shown(image, kind, GREY)
        assert pixels_of(found)[1].tolist() == [0, 255, 0, 0], kind
        assert found.conversions == {"1-bit"}


# --- colours ----------------------------------------------------------------------------------


def test_cmyk_and_ycck_have_their_colours() -> None:
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    for kind in ("JPEG", "TIFF"):
        found = shown(image, kind)
        assert np.abs(pixels_of(found)[0, 0].astype(int) - [0, 255, 255]).max() <= 2
        assert found.conversions == {"cmyk"}
    ycck = pixels_of(show(io.BytesIO(jpeg_ycck((200, 100, 50))), RGB))
    assert np.abs(ycck[0, 0].astype(int) - [200, 100, 50]).max() <= 3


def test_profiles_are_converted_to_srgb() -> None:
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    profile = profile_with_red_and_blue_swapped()
    found = shown(image, "PNG", icc_profile=profile)
    assert np.abs(pixels_of(found)[0, 0].astype(int) - [0, 0, 255]).max() <= 3
    assert found.conversions == {"icc-profile"}
    transparent = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    transparent.putpixel((1, 1), (255, 0, 0, 0))
    pixels = pixels_of(shown(transparent, "PNG", icc_profile=profile))
    assert pixels[1, 1].tolist() == [255, 255, 255]
    assert pixels[0, 0, 2] >= 252


def test_srgb_changes_no_bit_and_is_not_reported() -> None:
    found = shown(Image.fromarray(PIXELS), "PNG", icc_profile=srgb_profile())
    assert np.array_equal(pixels_of(found), PIXELS)
    assert found.conversions == set()
    grey = shown(Image.fromarray(PIXELS[..., 0]), "PNG", GREY, icc_profile=srgb_profile())
    assert np.array_equal(pixels_of(grey), PIXELS[..., 0])


def test_a_damaged_profile_is_ignored_and_reported() -> None:
    found = shown(Image.fromarray(PIXELS), "PNG", icc_profile=srgb_profile()[:200])
    assert np.array_equal(pixels_of(found), PIXELS)
    assert found.conversions == {"icc-profile-ignored"}


def test_palettes_have_their_colours() -> None:
    image = Image.fromarray(PIXELS).quantize(16)
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        found = shown(image, kind)
        assert np.array_equal(pixels_of(found), np.asarray(image.convert("RGB"))), kind
        assert found.conversions == {"palette"}


# --- several pictures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {}), ("AVIF", {})],
)
def test_the_first_frame_or_page_counts(kind: str, settings: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    found = shown(frames[0], kind, save_all=True, append_images=frames[1:], **settings)
    assert np.abs(pixels_of(found)[8, 8].astype(int) - [255, 0, 0]).max() <= 5
    assert "first-frame" in found.conversions


def test_the_picture_for_viewers_that_cannot_animate_is_no_frame() -> None:
    first, second, spare = (Image.new("RGB", (8, 8), c) for c in ("red", "lime", "blue"))
    found = shown(spare, "PNG", save_all=True, append_images=[first, second], default_image=True)
    assert pixels_of(found)[0, 0].tolist() == [255, 0, 0]


# --- a whole data set -------------------------------------------------------------------------


def _folder(root: Path) -> Path:
    rng = np.random.default_rng(1)
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8))
            image.save(root / name / f"{number}.png")
    return root


def _read(root: Path, **settings: Any) -> tuple[Raw, Findings]:
    findings = Findings()
    return read(DataConfig(source=f"imagefolder:{root}", **settings), None, findings), findings


def test_each_conversion_is_reported_once_with_its_number(tmp_path: Path) -> None:
    _, findings = _read(_folder(tmp_path))
    assert [(one.kind, one.count) for one in findings.warnings] == [("converted-transparency", 10)]
    assert findings.warnings[0].message == (
        "10 images have transparent pixels, which were composited on data.background: "
        "ant/0.png, ant/1.png, ant/2.png and 7 others"
    )


def test_background_is_a_setting(tmp_path: Path) -> None:
    white, black = (_read(_folder(tmp_path / c), background=c)[0] for c in ("white", "black"))
    assert white.images is not None
    assert black.images is not None
    assert (white.images >= black.images).all()
    assert white.images.mean() > black.images.mean() + 50


def test_channels_can_be_set(tmp_path: Path) -> None:
    raw, _ = _read(_folder(tmp_path), channels=1)
    assert raw.images is not None
    assert raw.images.shape == (10, 8, 8, 1)


@pytest.mark.parametrize("background", ["red", "#12345", "0"])
def test_a_background_that_is_no_colour(background: str) -> None:
    with pytest.raises(ValueError, match="background"):
        DataConfig(background=background)


def test_an_image_of_too_many_pixels_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "MAX_PIXELS", 10**6)
    root = _folder(tmp_path)
    Image.new("1", (3000, 3000)).save(root / "ant" / "bomb.png")
    with pytest.raises(InputError, match=r"ant/bomb.png \(has 3000 x 3000 pixels, more than the"):
        _read(root, image_size=8)


def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    with open(root / "ant" / "bomb.png", "wb") as file:
        file.truncate(513 * 2**20)
    with pytest.raises(InputError, match=r"ant/bomb.png \(it has more than 512 MB"):
        _read(root)
