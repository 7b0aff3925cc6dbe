"""Archives: what is read, and what is refused with which words."""

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nascore.config import DataConfig
from nascore.data.raw import Raw
from nascore.data.sources import read
from nascore.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
Y = np.arange(12) % 3


def write(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def read_file(path: Path, **settings: Any) -> Raw:
    return read(DataConfig(source=f"npz:{path}", **settings))


def problems(path: Path, **settings: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_file(path, **settings)
    assert {p.key for p in caught.value.problems} == {"data.source"}
    assert {p.value for p in caught.value.problems} == {f"npz:{path}"}
    return [p.message for p in caught.value.problems]


def test_own_test_split_comes_last(tmp_path: Path) -> None:
    raw = read_file(write(tmp_path, x_train=X, y_train=Y, x_test=X[:5] // 2, y_test=Y[:5]))
    assert raw.images is not None
    assert np.array_equal(raw.images, np.concatenate([X, X[:5] // 2]))
    assert raw.labels.tolist() == [*Y, *Y[:5]]
    assert (raw.num_test, raw.channels, raw.size) == (5, 3, 6)


def test_grey_images_need_no_channel_axis(tmp_path: Path) -> None:
    raw = read_file(write(tmp_path, x_train=X[..., 0], y_train=Y))
    assert raw.images is not None
    assert raw.images.shape == (12, 6, 6, 1)
    assert raw.num_test == 0


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint32])
def test_other_whole_numbers_within_a_byte_are_taken(tmp_path: Path, dtype: type) -> None:
    raw = read_file(write(tmp_path, x_train=X.astype(dtype), y_train=Y))
    assert raw.images is not None
    assert raw.images.dtype == np.uint8
    assert np.array_equal(raw.images, X)


def test_labels_may_be_any_whole_numbers(tmp_path: Path) -> None:
    values = np.array([-3, 70, 1000])
    raw = read_file(write(tmp_path, x_train=X, y_train=values[Y], x_test=X, y_test=values[Y]))
    assert raw.labels.tolist() == [*Y, *Y]
    assert raw.classes == ("-3", "70", "1000")


@pytest.mark.parametrize("dtype", ["U", "S"])
def test_names_of_classes(tmp_path: Path, dtype: str) -> None:
    names = np.array(["cat", "dog", "owl"]).astype(dtype)
    assert read_file(write(tmp_path, x_train=X, y_train=Y, classes=names)).classes == (
        "cat",
        "dog",
        "owl",
    )
    too_few = write(tmp_path, x_train=X, y_train=Y, classes=names[:2])
    assert read_file(too_few).classes == ("0", "1", "2")


def test_image_size_resizes_and_squares(tmp_path: Path) -> None:
    path = write(tmp_path, x_train=np.full((12, 4, 8, 2), 77, np.uint8), y_train=Y)
    raw = read_file(path, image_size=5)
    assert raw.images is not None
    assert raw.images.shape == (12, 5, 5, 2)
    assert set(raw.images.ravel()) == {77}


# --- what is refused ------------------------------------------------------------------------


def test_missing_and_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    assert "there is no file" in problems(path)[0]
    path.touch()
    assert problems(path) == ["the file is empty; write it again"]


def test_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(b"no archive at all, just some text")
    assert "not a whole .npz file" in problems(path)[0]
    with open(path, "wb") as file:
        np.save(file, X)
    assert "numpy.savez" in problems(path)[0]


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_anywhere_is_an_input_error(tmp_path: Path, compressed: bool) -> None:
    """Cut at any place, or with bytes overwritten: always one clear message, never a traceback."""
    path = tmp_path / "data.npz"
    (np.savez_compressed if compressed else np.savez)(path, x_train=X // 64 * 64, y_train=Y)
    whole = path.read_bytes()
    for end in range(1, len(whole), len(whole) // 40):
        path.write_bytes(whole[:end])
        assert "damaged or cut short" in problems(path)[0] or "NumPy's format" in problems(path)[0]
    starts = [*range(160), *range(160, len(whole), len(whole) // 100)]  # headers byte by byte
    for start in starts:
        path.write_bytes(whole[:start] + b"\xff" + whole[start + 1 :])
        with contextlib.suppress(InputError):  # the archive has bytes that nobody reads
            read_file(path)


def test_file_that_may_not_be_read() -> None:
    """Root may read everything, so a child process without privileges tries."""
    if not hasattr(os, "setuid"):
        pytest.skip("needs POSIX users")
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name), x_train=X, y_train=Y)
        path.chmod(0)
        Path(name).chmod(0o755)
        script = (
            "import os, sys\n"
            "from nascore.config import DataConfig\n"
            "from nascore.data.sources import read\n"
            "from nascore.errors import InputError\n"
            "if os.getuid() == 0: os.setuid(65534)\n"
            "try: read(DataConfig(source='npz:' + sys.argv[1]))\n"
            "except InputError as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
        )
    assert "may not be read; check its permissions" in done.stdout


def test_missing_arrays_are_all_named(tmp_path: Path) -> None:
    found = problems(write(tmp_path, y_test=Y, images=X))
    assert [message.split(";")[0] for message in found] == [
        "has no array x_train",
        "has no array y_train",
        "has no array x_test",
    ]


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    objects = np.empty(12, object)
    found = problems(write(tmp_path, x_train=objects, y_train=Y))
    assert found == [
        "array x_train holds Python objects, which can run code when read; save plain numbers"
    ]


def test_members_that_would_leave_their_folder_are_never_written(tmp_path: Path) -> None:
    """An archive is read into memory; the five arrays are all that is looked at."""
    (tmp_path / "inner").mkdir()
    path = write(tmp_path / "inner", x_train=X, y_train=Y)
    outside = [tmp_path / "evil.npy", tmp_path / "inner" / "evil.npy"]
    with zipfile.ZipFile(path, "a") as archive:
        content = archive.read("y_train.npy")
        for name in ("../evil.npy", str(outside[0]), "inner/../evil.npy", "evil.npy"):
            archive.writestr(name, content)
        link = zipfile.ZipInfo("link.npy")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(outside[0]))
    before = sorted(tmp_path.rglob("*"))
    assert len(read_file(path).labels) == 12
    assert sorted(tmp_path.rglob("*")) == before == [path.parent, path]


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    x = X.astype(np.float32) / 255
    x[7, 0, 0, 0], x[9, 1, 1, 1] = np.nan, np.inf
    found = problems(write(tmp_path, x_train=x, y_train=Y, x_test=X[..., :1], y_test=Y[:5]))
    assert found[0].startswith("x_train has NaN or infinite values in 2 of 12 images, the first is")
    assert "number 7;" in found[0]
    assert found[1] == "x_train must be uint8 (0..255), got float32; scale and convert it"
    assert found[2].startswith("x_test has 12 images and y_test 5 labels")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.astype(np.float32), "x_train must be uint8 (0..255), got float32"),
        (X > 100, "x_train must be uint8 (0..255), got bool"),
        (X.astype(np.int16) - 1, "x_train must lie in 0..255, got -1..25"),
        (X.astype(np.int16) * 2, "x_train must lie in 0..255, got 0..5"),
        (X.reshape(12, -1), "x_train must have shape (N, H, W) or (N, H, W, C), got (12, 108)"),
        (np.float32(1), "x_train must have shape"),
        (X[:, :0], "x_train must have shape"),
        (X.transpose(0, 3, 1, 2), "looks like (N, C, H, W); write x_train.transpose(0, 2, 3, 1)"),
        (X[:, :4], "images are 6 wide and 4 high, networks here read square ones; set data.image"),
    ],
)
def test_images_that_do_not_do(tmp_path: Path, x: Any, message: str) -> None:
    assert message in problems(write(tmp_path, x_train=x, y_train=Y))[0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:11], "x_train has 12 images and y_train 11 labels"),
        (Y[:, None], "y_train must have shape (N,), got (12, 1); flatten it"),
        (Y.astype(float), "y_train must hold whole numbers, got float64"),
        (np.array(list("abc") * 4), "y_train must hold whole numbers, got <U1"),
        (Y * 0, "needs at least 2 classes, got ['0']"),
        (np.array([0] * 10 + [5, 5]), "class '5' has 2 training images, needs at least 3"),
    ],
)
def test_labels_that_do_not_match(tmp_path: Path, y: Any, message: str) -> None:
    assert message in problems(write(tmp_path, x_train=X, y_train=y))[0]


def test_test_labels_and_shapes_must_be_known(tmp_path: Path) -> None:
    small = X[:, :5, :5]
    found = problems(write(tmp_path, x_train=X, y_train=Y, x_test=small, y_test=Y + 1))
    assert "x_train has images of shape (6, 6, 3), x_test of (5, 5, 3)" in found[0]
    assert "y_test has labels that y_train does not have: 3;" in found[1]


def test_test_images_do_not_count_for_a_small_class(tmp_path: Path) -> None:
    y = np.array([0] * 10 + [1, 1])
    found = problems(write(tmp_path, x_train=X, y_train=y, x_test=X, y_test=Y % 2))
    assert found[0].startswith("class '1' has 2 training images")


def test_long_lists_are_shortened(tmp_path: Path) -> None:
    found = problems(write(tmp_path, x_train=X, y_train=np.arange(12)))
    assert len(found) == 11
    assert found[-1] == "and 2 more of this kind"
