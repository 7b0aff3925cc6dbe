"""Prepared data: whole or not there at all, described exactly, and hashed."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nascore.config import DataConfig
from nascore.data import prepared
from nascore.data.prepared import DatasetInfo, prepare
from nascore.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (60, 5, 5, 3), dtype=np.uint8)
Y = np.arange(60) % 3


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    return tmp_path / "data.npz"


def make(archive: Path, folder: str = "out", seed: int = 0, **settings: Any) -> DatasetInfo:
    config = DataConfig(source=f"npz:{archive}", **settings)
    return prepare(config, seed, archive.parent / folder)


def make_folder(root: Path, count: int = 12) -> Path:
    for number in range(count):
        path = root / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (300, 300), dtype=np.uint8)).save(path)
    return root


def test_folder_holds_what_the_architecture_says(archive: Path) -> None:
    info = make(archive)
    folder = archive.parent / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json",
        "images.npy",
        "labels.npy",
        "splits.npz",
    ]
    images = np.load(folder / "images.npy", mmap_mode="r")
    assert np.array_equal(images, X.transpose(0, 3, 1, 2))
    assert np.array_equal(np.load(folder / "labels.npy"), Y)
    with np.load(folder / "splits.npz") as splits:
        sizes = [len(splits[name]) for name in ("train", "valid", "test")]
    assert sizes == [info.num_train, info.num_valid, info.num_test] == [42, 6, 12]
    assert info.class_counts == {"train": [14] * 3, "valid": [2] * 3, "test": [4] * 3}


def test_many_images_are_written_in_order(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(archive, "whole")
    monkeypatch.setattr(prepared, "_CHUNK", 7)
    assert make(archive, "chunked") == whole
    folders = [archive.parent / name / "images.npy" for name in ("whole", "chunked")]
    assert folders[0].read_bytes() == folders[1].read_bytes()


def test_information_round_trips(archive: Path) -> None:
    info = make(archive)
    assert DatasetInfo.load(archive.parent / "out") == info
    assert DatasetInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info
    with pytest.raises(ValueError, match="version must be 1, got 2"):
        DatasetInfo.from_dict(replace(info, version=2).to_dict())


def test_folder_can_be_read_by_other_users(archive: Path) -> None:
    """On a cluster the next step may run as another user; a private folder would stop it."""
    before = os.umask(0o022)
    try:
        make(archive)
    finally:
        os.umask(before)
    assert (archive.parent / "out").stat().st_mode & 0o777 == 0o755


def test_normalisation_knows_the_training_split_only(archive: Path) -> None:
    info = make(archive)
    with np.load(archive.parent / "out" / "splits.npz") as splits:
        train = splits["train"]
        others = np.concatenate([splits["valid"], splits["test"]])
    pixels = X[train].reshape(-1, 3) / 255
    np.testing.assert_allclose(info.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(info.std, pixels.std(0), rtol=1e-12)
    changed = X.copy()
    changed[others] = 0
    np.savez(archive, x_train=changed, y_train=Y)
    again = make(archive, "again")
    assert (again.mean, again.std) == (info.mean, info.std)
    assert again.data_sha256 != info.data_sha256


def test_constant_channel_is_not_divided_by_zero(archive: Path) -> None:
    np.savez(archive, x_train=X * np.array([0, 1, 1], np.uint8), y_train=Y)
    info = make(archive)
    assert info.mean[0] == 0
    assert info.std[0] > 0


def test_hashes_follow_the_data_and_the_split(archive: Path) -> None:
    first = make(archive)
    other_seed = make(archive, "b", seed=1)
    assert other_seed.data_sha256 == first.data_sha256
    assert other_seed.split_sha256 != first.split_sha256
    np.savez(archive, x_train=X, y_train=(Y + 1) % 3)
    assert make(archive, "c").data_sha256 != first.data_sha256
    np.savez_compressed(archive, x_train=X.astype(np.int32), y_train=Y)
    assert make(archive, "d").data_sha256 == first.data_sha256  # the content counts


def test_hashes_of_digits_are_golden(tmp_path: Path) -> None:
    """Results name them: another value means that old results cannot be compared any more."""
    info = prepare(DataConfig(source="digits"), 0, tmp_path / "digits")
    assert info.data_sha256[:16] == "539ca92a39ec6e38"
    assert info.split_sha256[:16] == "73c6caba76ffe3eb"
    assert (info.num_train, info.num_valid, info.num_test) == (1222, 216, 359)


# --- nothing half-written -------------------------------------------------------------------


def test_bad_input_leaves_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y * 0)
    with pytest.raises(InputError):
        make(tmp_path / "data.npz", "deep/out")
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_disk_too_small_says_how_much_is_needed(archive: Path) -> None:
    config = DataConfig(source=f"npz:{archive}")
    with pytest.raises(InputError, match=r"MB free, .* need 1\d{6,} MB; free some") as caught:
        prepare(config, 0, archive.parent / "new" / "out", min_free_bytes=10**12 * 2**20)
    assert caught.value.problems[0].key == "output folder"
    assert not (archive.parent / "new").exists()


def test_failure_while_writing_leaves_nothing(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left"):
        make(archive)
    assert [path.name for path in archive.parent.iterdir()] == ["data.npz"]


def test_earlier_data_is_replaced(archive: Path) -> None:
    make(archive)
    info = make(archive, seed=1)
    assert DatasetInfo.load(archive.parent / "out") == info
    assert sorted(p.name for p in archive.parent.iterdir()) == ["data.npz", "out"]


def test_other_content_is_left_alone(archive: Path) -> None:
    out = archive.parent / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something other than a data set"):
        make(archive)
    assert (out / "thesis.txt").read_text() == "years of work"
    with pytest.raises(InputError, match="is a file"):
        make(archive, "data.npz")


# --- streamed -------------------------------------------------------------------------------


def test_streamed_folder_has_names_and_exact_statistics(tmp_path: Path) -> None:
    source = f"imagefolder:{make_folder(tmp_path / 'images')}"
    streamed = prepare(DataConfig(source=source, memory_limit_mb=1), 0, tmp_path / "streamed")
    in_memory = prepare(DataConfig(source=source), 0, tmp_path / "memory")
    assert streamed.streamed
    assert not in_memory.streamed
    assert not (tmp_path / "streamed" / "images.npy").exists()
    lines = (tmp_path / "streamed" / "files.txt").read_text().split("\n")
    names, versions = zip(*(line.split("\t") for line in lines), strict=True)
    assert versions[0].startswith(f"{(tmp_path / 'images' / names[0]).stat().st_size}-")
    assert list(names) == [
        f"class{k}/{n}.png" for k in (0, 1) for n in sorted(range(k, 12, 2), key=str)
    ]
    assert streamed.root == str(tmp_path / "images")
    assert (streamed.mean, streamed.std) == (in_memory.mean, in_memory.std)
    assert streamed.split_sha256 == in_memory.split_sha256
    assert streamed.data_sha256 == in_memory.data_sha256
    assert streamed.class_counts == in_memory.class_counts


def test_streamed_hash_follows_the_pixels(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    config = DataConfig(source=f"imagefolder:{root}", memory_limit_mb=1)
    first = prepare(config, 0, tmp_path / "a")
    image = Image.open(root / "class0" / "0.png")
    image.save(root / "class0" / "0.png", compress_level=0)  # other bytes, the same pixels
    assert prepare(config, 0, tmp_path / "b").data_sha256 == first.data_sha256
    Image.new("L", (300, 300), 9).save(root / "class0" / "0.png")
    assert prepare(config, 0, tmp_path / "c").data_sha256 != first.data_sha256


def test_small_cifar(offline_data: Path, tmp_path: Path) -> None:
    source = f"npz:{offline_data / 'cifar10_small_rgb.npz'}"
    info = prepare(DataConfig(source=source), 0, tmp_path / "cifar")
    assert (info.num_train, info.num_valid, info.num_test) == (1700, 300, 1000)
    assert (info.channels, info.size, info.classes[0]) == (3, 32, "airplane")
    assert set(info.class_counts["valid"]) == {30}
    np.testing.assert_allclose(info.mean, (0.491, 0.482, 0.447), atol=0.01)
    np.testing.assert_allclose(info.std, (0.247, 0.243, 0.262), atol=0.01)
