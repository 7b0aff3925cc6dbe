"""Leaks and faults: copies, contradicting labels, empty pictures, pictures that look the same."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_trees import names, picture, write
from PIL import Image

from nascore.config import DataConfig
from nascore.data.checks import near_pairs
from nascore.data.content import content_of, perceptual_hashes
from nascore.data.findings import Finding, Findings, merged
from nascore.data.inspection import Inspected, inspect
from nascore.data.prepared import prepare
from nascore.errors import InputError

RNG = np.random.default_rng(0)


def examined(source: object, **settings: Any) -> tuple[Inspected, Findings]:
    findings = Findings(lenient=True)
    kind = "imagefolder:" if isinstance(source, Path) else ""
    return inspect(DataConfig(source=f"{kind}{source}", **settings), 0, findings), findings


def problems(source: object, **settings: Any) -> dict[str, Finding]:
    return {one.kind: one for one in merged(examined(source, **settings)[1].problems)}


def warnings(source: object, **settings: Any) -> dict[str, Finding]:
    return {one.kind: one for one in examined(source, **settings)[1].warnings}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = write(tmp_path / "in", names("train", count=12))
    return write(root, names("test", count=4), first=100)


def test_a_sound_data_set_has_no_findings(tree: Path) -> None:
    inspected, findings = examined(tree)
    assert (findings.problems, findings.warnings) == ([], [])
    assert len(inspected.raw.labels) == 32
    assert examined("digits")[1].problems == []


# --- copies -----------------------------------------------------------------------------------


def test_copies_are_known_by_their_pixels_whatever_their_files(tree: Path) -> None:
    with Image.open(tree / "train" / "ant" / "0.png") as image:
        image.save(tree / "train" / "ant" / "again.bmp")
        image.convert("RGBA").save(tree / "test" / "ant" / "again.tiff")
        image.save(tree / "train" / "bee" / "again.png", compress_level=0)
    found = problems(tree)
    assert set(found) == {"duplicate-across-splits", "label-conflict"}
    assert found["duplicate-across-splits"].examples == (
        "train/ant/0.png (train) and test/ant/again.tiff (test)",
    )
    assert found["label-conflict"].examples == (
        "train/ant/0.png (ant) and train/bee/again.png (bee)",
    )


def test_copies_within_a_split_are_counted(tree: Path) -> None:
    for number in range(2, 6):
        shutil.copy(tree / "train/ant/0.png", tree / f"train/ant/copy{number}.png")
    shutil.copy(tree / "test/bee/1.png", tree / "test/bee/copy.png")
    found = problems(tree)
    assert set(found) == {"duplicate"}
    assert found["duplicate"].count == 5
    assert found["duplicate"].message.startswith(
        "5 images are copies of others in their split: train/ant/0.png and train/ant/copy2.png, "
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_copies_stay_in_one_split_where_we_draw_it(tmp_path: Path, streamed: bool) -> None:
    """Four copies of each picture: drawn one by one, most would be divided."""
    root = tmp_path / "in"
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for number in range(40):
            seed = number // 4 + 100 * (name == "bee")
            picture(seed, size=200 if streamed else 8).save(root / name / f"{number:02}.png")
    inspected, findings = examined(root, memory_limit_mb=1 if streamed else 4096)
    assert (inspected.raw.images is None) == streamed
    assert {one.kind for one in merged(findings.problems)} == {"duplicate"}
    sizes = [len(getattr(inspected.indices, name)) for name in ("train", "valid", "test")]
    assert sizes == [56, 8, 16]
    info = prepare(
        DataConfig(source=f"imagefolder:{root}", memory_limit_mb=1 if streamed else 4096),
        0,
        tmp_path / "out",
    )
    with np.load(tmp_path / "out" / "splits.npz") as splits:
        train = splits["train"]
    pixels = np.stack(
        [
            np.asarray(Image.open(root / f"{'ant' if p < 40 else 'bee'}" / f"{p % 40:02}.png"))
            for p in train
        ]
    )
    np.testing.assert_allclose(info.mean, pixels.reshape(-1, 3).mean(0) / 255, rtol=1e-12)


def test_few_copies_change_places_with_others(tmp_path: Path) -> None:
    """The splits of all other images are as they were without the copies."""
    root = write(tmp_path / "in", names(count=50))
    before = prepare(DataConfig(source=f"imagefolder:{root}"), 0, tmp_path / "before")
    for number in (7, 11, 23):
        shutil.copy(root / "ant/3.png", root / f"ant/{number}.png")
    after = prepare(DataConfig(source=f"imagefolder:{root}"), 0, tmp_path / "after")
    assert before.class_counts == after.class_counts
    parts = []
    for name in ("before", "after"):
        with np.load(tmp_path / name / "splits.npz") as splits:
            parts.append({p: k for k in splits.files for p in splits[k].tolist()})
    changed = [place for place in range(100) if parts[0][place] != parts[1][place]]
    assert 0 < len(changed) <= 6
    paths = sorted((root / "ant").iterdir())
    copies = [paths.index(root / "ant" / f"{n}.png") for n in (3, 7, 11, 23)]
    assert len({parts[1][place] for place in copies}) == 1


def test_a_class_of_copies_alone_is_not_taken_out_of_a_split(tmp_path: Path) -> None:
    root = write(tmp_path, names(count=6))
    for number in range(1, 6):
        shutil.copy(root / "ant/0.png", root / f"ant/{number}.png")
    inspected, findings = examined(root)
    for part in (inspected.indices.train, inspected.indices.valid, inspected.indices.test):
        assert set(inspected.raw.labels[part]) == {0, 1}
    assert "duplicate-across-splits" in {one.kind for one in merged(findings.problems)}


def test_copies_in_arrays(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    x[3], x[19] = x[0], x[1]
    y = np.arange(16) % 2
    np.savez(tmp_path / "a.npz", x_train=x[:16], y_train=y, x_test=x[16:], y_test=y[:4])
    found = problems(f"npz:{tmp_path / 'a.npz'}")
    assert found["label-conflict"].examples == ("image 0 (0) and image 3 (1)",)
    assert found["duplicate-across-splits"].examples == ("image 1 (train) and image 19 (test)",)


def test_a_run_is_warned_and_refuses_when_it_shall(tree: Path, tmp_path: Path) -> None:
    shutil.copy(tree / "train/ant/0.png", tree / "test/ant/copy.png")
    config = DataConfig(source=f"imagefolder:{tree}")
    info = prepare(config, 0, tmp_path / "out")
    (reported,) = info.warnings
    assert (reported["kind"], reported["count"]) == ("duplicate-across-splits", 1)
    with pytest.raises(InputError, match="1 pictures stand in more than one split"):
        prepare(config.model_copy(update={"strict": True}), 0, tmp_path / "strict")


# --- empty pictures ---------------------------------------------------------------------------


def test_constant_images(tree: Path) -> None:
    for number, colour in enumerate(("black", "white", (1, 2, 3))):
        Image.new("RGB", (8, 8), colour).save(tree / "train" / "bee" / f"empty{number}.png")
    found = problems(tree)
    assert set(found) == {"constant-image"}
    assert found["constant-image"].count == 3
    assert found["constant-image"].examples == tuple(f"train/bee/empty{n}.png" for n in range(3))


def test_constant_channels(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    x[..., 2] = 7
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(20) % 2)
    reported = problems(f"npz:{tmp_path / 'a.npz'}")["constant-channel"]
    assert reported.examples == ("blue (always 7)",)


# --- pictures that look the same --------------------------------------------------------------


def smooth(seed: int, side: int = 48) -> Image.Image:
    """A picture of soft spots, as a photograph has them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def test_hashes_of_copies_are_near_and_of_others_far() -> None:
    originals = [smooth(seed) for seed in range(40)]
    copies = [recompressed(image, 85) for image in originals]
    copies += [image.resize((40, 40)).resize((48, 48)) for image in originals]
    images = np.stack([np.asarray(image) for image in originals + copies])
    hashes, texture = perceptual_hashes(images)
    assert texture.min() >= 24
    pairs = {tuple(pair) for pair in near_pairs(hashes).tolist()}
    assert {(k, 40 + k) for k in range(40)} | {(k, 80 + k) for k in range(40)} <= pairs
    assert all(one % 40 == other % 40 for one, other in pairs)


def test_every_close_pair_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = RNG.integers(0, 256, (500, 16), dtype=np.uint8)
    near = hashes[:100].copy()
    for row in near:
        for bit in RNG.choice(128, 7, replace=False):
            row[bit // 8] ^= 1 << (bit % 8)
    everything = np.concatenate([hashes, near])
    bits = np.unpackbits(everything, axis=1).astype(int)
    distance = (bits[:, None] != bits[None]).sum(-1)
    wanted = {(a, b) for a, b in np.argwhere(distance <= 7).tolist() if a < b}
    assert len(wanted) == 100
    assert {tuple(pair) for pair in near_pairs(everything).tolist()} == wanted


def test_blank_and_tiny_pictures_resemble_nothing() -> None:
    pages = np.full((5, 32, 32, 1), 250, np.uint8)
    pages[:, 10, 10] = np.arange(5)[:, None]
    assert not content_of(pages).has_hash.any()
    assert not content_of(RNG.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)).has_hash.any()


def test_near_copies_are_a_warning(tmp_path: Path) -> None:
    for split, shift in (("train", 0), ("test", 50)):
        for label, name in enumerate(("ant", "bee")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(5):
                seed = 1000 * label + shift + number
                smooth(seed).save(tmp_path / split / name / f"{number}.png")
    assert "near-duplicate" not in warnings(tmp_path)
    recompressed(smooth(3), 70).save(tmp_path / "test" / "ant" / "like3.png")
    inspected, findings = examined(tmp_path)
    assert findings.problems == []
    (reported,) = findings.warnings
    assert reported.kind == "near-duplicate"
    assert reported.message.startswith(
        "1 pairs of images look nearly the same, 1 of them across splits: train/ant/3.png and "
        "test/ant/like3.png"
    )
    assert inspected.indices is not None


# --- all at once ------------------------------------------------------------------------------


def test_a_lenient_reading_goes_on_as_far_as_it_can(tree: Path) -> None:
    shutil.copy(tree / "train/ant/0.png", tree / "test/ant/copy.png")
    (tree / "train/ant/bad.png").write_bytes(b"text")
    whole = (tree / "train/bee/1.png").read_bytes()
    (tree / "train/bee/1.png").write_bytes(whole[: len(whole) // 2])
    (tree / "train/bee/gone.png").symlink_to("nothing")
    (tree / "train/bee/film.mp4").write_bytes(b"x")
    picture(500, size=9).save(tree / "train" / "bee" / "wide.png")
    inspected, findings = examined(tree)
    found = {one.kind: one for one in merged(findings.problems)}
    assert set(found) == {
        *("broken-link", "skipped-files", "unreadable", "image-size", "duplicate-across-splits"),
    }
    assert found["unreadable"].count == 2
    assert found["unreadable"].examples == ("train/ant/bad.png", "train/bee/1.png")
    assert int(inspected.content.is_known.sum()) == 34 - 1


def test_classes_that_are_too_small(tree: Path) -> None:
    write(tree, ["train/cow/0.png", "train/dog/0.png", "train/dog/1.png"], first=300)
    reported = problems(tree)["too-few-images"]
    assert (reported.count, reported.examples) == (2, ("cow", "dog"))


def test_few_shot_data_is_checked_as_well(tmp_path: Path) -> None:
    root = write(tmp_path, names(classes="abcdef", count=3))
    shutil.copy(root / "a/0.png", root / "b/copy.png")
    inspected, findings = examined(root, split_by="class")
    assert inspected.class_splits is not None
    assert "label-conflict" in {one.kind for one in merged(findings.problems)}
