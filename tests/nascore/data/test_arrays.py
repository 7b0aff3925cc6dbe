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
from nascore.data.findings import Findings
from nascore.data.raw_dataset import Raw
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


def read_reported(path: Path, **settings: Any) -> tuple[Raw, Findings]:
    findings = Findings()
    source = f"{path.suffix[1:] or 'npy'}:{path}"
    raw = read(DataConfig(source=source, **settings), None, findings)
    findings.refuse()
    return raw, findings


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
    assert read_file(write(tmp_path, x_train=X, y_train=Y + 1, classes=names)).classes == (
        "cat",
        "dog",
        "owl",
    )
    too_few = write(tmp_path, x_train=X, y_train=Y, classes=names[:2])
    raw, findings = read_reported(too_few)
    assert raw.classes == ("0", "1", "2")
    assert findings.warnings[0].message.startswith("classes has 2 names, and there are 3 labels")
    more = write(tmp_path, x_train=X, y_train=Y % 2 * 2, classes=names)
    raw, findings = read_reported(more)
    assert raw.classes == ("cat", "owl")
    assert {one.kind: one.examples for one in findings.warnings} == {"missing-class": ("dog",)}


def test_a_label_of_minus_one_is_none(tmp_path: Path) -> None:
    reported = problems(write(tmp_path, x_train=X, y_train=Y - 1))
    assert "labels -1, which mark images without a label; leave these images out" in reported[0]
    signs = write(tmp_path, x_train=X, y_train=Y % 2 * 2 - 1)
    assert read_file(signs).classes == ("-1", "1")


def test_image_size_resizes_and_squares(tmp_path: Path) -> None:
    path = write(tmp_path, x_train=np.full((12, 4, 8, 2), 77, np.uint8), y_train=Y)
    raw = read_file(path, image_size=5)
    assert raw.images is not None
    assert raw.images.shape == (12, 5, 5, 2)
    assert set(raw.images.ravel()) == {77}


# --- axes and values ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 32, 32), "NCHW"),
        ((1, 28, 28), "NCHW"),
        ((13, 64, 64), "NCHW"),
        ((3, 20, 30), "NCHW"),
        ((1, 5, 40), "NCHW"),
        ((32, 32, 3), "NHWC"),
        ((64, 64, 13), "NHWC"),
        ((20, 30, 3), "NHWC"),
        ((20, 30, 1), "NHWC"),
        ((2, 2, 3), "NHWC"),
        ((3, 2, 2), "NCHW"),
        ((1, 1, 1), "NHWC"),
        ((1, 1, 3), "NHWC"),
        ((3, 20, 3), None),
        ((3, 3, 3), None),
        ((4, 30, 3), None),
        ((10, 20, 13), None),
    ],
)
def test_which_axis_has_the_channels(
    tmp_path: Path, shape: tuple[int, ...], axes: str | None
) -> None:
    x = RNG.integers(0, 256, (12, *shape), dtype=np.uint8)
    path = write(tmp_path, x_train=x, y_train=Y)
    if axes is None:
        assert "(NHWC), or " in problems(path, image_size=8)[0]
        assert "set data.axes" in problems(path, image_size=8)[0]
        for given in ("NHWC", "NCHW"):
            channels = shape[-1] if given == "NHWC" else shape[0]
            assert read_file(path, image_size=8, axes=given).channels == channels
        return
    raw, findings = read_reported(path, image_size=None if len(set(shape)) < 3 else 8)
    assert raw.channels == (shape[-1] if axes == "NHWC" else shape[0])
    reported = [warning.message for warning in findings.warnings]
    assert reported == (
        [] if axes == "NHWC" else [f"x_train has shape {x.shape}, which is read as (N, C, H, W)"]
    )


def test_channels_first_is_the_same_data(tmp_path: Path) -> None:
    last = read_file(write(tmp_path, x_train=X, y_train=Y))
    first = read_file(write(tmp_path, x_train=X.transpose(0, 3, 1, 2), y_train=Y))
    assert first.images is not None
    assert last.images is not None
    assert np.array_equal(first.images, last.images)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 255])
def test_floats_are_taken_with_their_range_reported(
    tmp_path: Path, dtype: type, scale: int
) -> None:
    x = X.copy()
    x[0, 0, 0] = 0, 255, 7
    raw, findings = read_reported(write(tmp_path, x_train=(x / scale).astype(dtype), y_train=Y))
    assert raw.images is not None
    assert np.array_equal(raw.images, x)
    (reported,) = findings.warnings
    done = "rounded" if scale == 1 else "multiplied by 255"
    top = 255 if scale == 1 else 1
    assert reported.message == (
        f"x_train hold {np.dtype(dtype)} in 0..{top}; they were {done} to 0..255"
    )


# --- labels and names -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (Y + 1, ("1", "2", "3")),
        (Y[:, None], ("0", "1", "2")),
        (np.array(["cat", "dog", "owl"])[Y], ("cat", "dog", "owl")),
        (np.array([b"cat", b"dog", b"owl"])[Y], ("cat", "dog", "owl")),
        (np.eye(3, dtype=np.uint8)[Y], ("0", "1", "2")),
        (np.eye(3, dtype=np.float32)[Y], ("0", "1", "2")),
        (np.eye(3, dtype=bool)[Y], ("0", "1", "2")),
    ],
)
def test_labels_of_many_kinds(tmp_path: Path, y: np.ndarray, classes: tuple[str, ...]) -> None:
    raw = read_file(write(tmp_path, x_train=X, y_train=y))
    assert raw.labels.tolist() == Y.tolist()
    assert raw.classes == classes


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_dev", "Y_dev", "X_eval", "Y_eval"),
        ("images", "labels", "valid_images", "valid_labels", "test_images", "test_labels"),
    ],
)
def test_names_that_others_give_to_arrays(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays = dict(zip(names, [X, Y[:, None], X[:6], Y[:6], X[:3], Y[:3]], strict=True))
    raw = read_file(write(tmp_path, **arrays))
    assert (raw.num_train, raw.num_valid, raw.num_test) == (12, 6, 3)


def test_two_arrays_for_the_same(tmp_path: Path) -> None:
    found = problems(write(tmp_path, images=X, data=X, labels=Y))
    assert found == ["has images, data for the same; keep one of them"]


# --- other files ------------------------------------------------------------------------------


def _safetensors(path: Path, **arrays: np.ndarray) -> Path:
    from safetensors.numpy import save_file

    save_file(arrays, path, metadata={"classes": '["cat", "dog", "owl"]'})
    return path


def test_the_same_arrays_in_other_files_are_the_same_data(tmp_path: Path) -> None:
    from nascore.data.prepared import prepare

    y = Y.astype(np.int64)
    sources = {"npz": write(tmp_path, x_train=X, y_train=y)}
    sources["safetensors"] = _safetensors(tmp_path / "a.safetensors", x_train=X, y_train=y)
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "x_train.npy", X)
    np.save(tmp_path / "arrays" / "y_train.npy", y)
    names = np.array(["cat", "dog", "owl"])
    np.save(tmp_path / "arrays" / "classes.npy", names)
    np.savez(sources["npz"], x_train=X, y_train=y, classes=names)
    sources["npy"] = tmp_path / "arrays"
    found = {
        kind: prepare(DataConfig(source=f"{kind}:{path}"), 0, tmp_path / "out" / kind)
        for kind, path in sources.items()
    }
    one = DataConfig(source=f"npy:{tmp_path / 'arrays' / 'x_train.npy'}")
    found["one"] = prepare(one, 0, tmp_path / "out" / "one")
    assert len({info.data_sha256 for info in found.values()}) == 1
    assert found["safetensors"].classes == ("cat", "dog", "owl")


def test_a_single_npy_with_labels_in_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "photos.npy", X)
    (tmp_path / "labels.csv").write_text("label\n" + "".join(f"{'abc'[k]}\n" for k in Y))
    settings = {"labels": str(tmp_path / "labels.csv")}
    raw, _ = read_reported(tmp_path / "photos.npy", **settings)
    assert raw.classes == ("a", "b", "c")
    with pytest.raises(InputError, match="has no array y_train"):
        read_reported(tmp_path / "photos.npy")
    with pytest.raises(InputError, match=r"data.labels = none.csv: cannot be read"):
        read_reported(tmp_path / "photos.npy", labels="none.csv")


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = _safetensors(tmp_path / "a.safetensors", x_train=X, y_train=Y.astype(np.int64))
    whole = path.read_bytes()
    for end in (1, 7, 8, 60, len(whole) - 5):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"is not a whole \.safetensors file"):
            read_reported(path)
    path.write_bytes(b"\xff" * 8 + whole[8:])
    with pytest.raises(InputError, match="header too large"):
        read_reported(path)
    path.write_bytes(whole.replace(b"[12,6,6,3]", b"[12,6,6,2]"))
    with pytest.raises(InputError, match=r"not a whole \.safetensors file.*invalid shape"):
        read_reported(path)
    path.write_bytes(whole.replace(b'"U8"', b'"X8"'))
    with pytest.raises(InputError, match=r"not a whole \.safetensors file.*unknown variant `X8`"):
        read_reported(path)


def test_a_type_that_numpy_lacks_is_named(tmp_path: Path) -> None:
    path = _safetensors(tmp_path / "a.safetensors", x_train=X, y_train=Y.astype(np.int64))
    path.write_bytes(path.read_bytes().replace(b'"I64"', b'"C64"'))
    with pytest.raises(InputError, match="array y_train is of type C64; write whole numbers"):
        read_reported(path)


def _parquet(path: Path, names: list[str], labels: list[Any], **info: Any) -> Path:
    import io
    import json

    from image_trees import content

    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    images = [{"bytes": content(n), "path": name} for n, name in enumerate(names)]
    table = arrow.table({"image": images, "label": labels})
    if info:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": info})})
    assert io is not None
    parquet.write_table(table, path)
    return path


def test_parquet_of_the_hub_is_the_same_data_as_its_folder(tmp_path: Path) -> None:
    from image_trees import names as tree_names
    from image_trees import write as write_tree

    from nascore.data.prepared import prepare

    write_tree(tmp_path / "in", tree_names(count=6))
    features = {"label": {"names": ["ant", "bee"]}}
    path = _parquet(
        tmp_path / "train-00000-of-00001.parquet",
        tree_names(count=6),
        [0] * 6 + [1] * 6,
        features=features,
    )
    one = prepare(DataConfig(source=f"imagefolder:{tmp_path / 'in'}"), 0, tmp_path / "a")
    other = prepare(DataConfig(source=f"parquet:{path}"), 0, tmp_path / "b")
    assert one.data_sha256 == other.data_sha256
    assert one.split_sha256 == other.split_sha256
    limited = DataConfig(source=f"parquet:{path}", image_size=512, memory_limit_mb=1)
    with pytest.raises(InputError, match="Parquet cannot be streamed"):
        prepare(limited, 0, tmp_path / "c")


def test_parquet_with_a_file_for_each_split(tmp_path: Path) -> None:
    names_ = [f"{n}.png" for n in range(8)]
    for part in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        _parquet(tmp_path / f"{part}.parquet", names_, list("ab" * 4))
    raw = read(DataConfig(source=f"parquet:{tmp_path}"))
    assert (raw.classes, raw.num_train, raw.num_test) == (("a", "b"), 16, 8)
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="parquet is no whole Parquet file"):
        read(DataConfig(source=f"parquet:{tmp_path}"))


def test_parquet_of_numbers(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"image": X.tolist(), "label": Y.tolist()}), path)
    raw = read(DataConfig(source=f"parquet:{path}"))
    assert raw.images is not None
    assert np.array_equal(raw.images, X)
    parquet.write_table(arrow.table({"image": X.tolist(), "id": Y.tolist()}), path)
    with pytest.raises(InputError, match=r"has no column of labels .*; it has image, id"):
        read(DataConfig(source=f"parquet:{path}"))


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
        with contextlib.suppress(InputError):  # nothing reads some bytes of the archive
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
    found = problems(write(tmp_path, y_test=Y, other=X))
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


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    x = X.astype(np.float32) / 255
    x[7, 0, 0, 0], x[9, 1, 1, 1] = np.nan, np.inf
    found = problems(write(tmp_path, x_train=x, y_train=Y, x_test=X / 255, y_test=Y[:5]))
    assert found[0].startswith("x_train has NaN or infinite values in 2 of 12 images, the first is")
    assert "number 7;" in found[0]
    assert found[1].startswith("x_test has 12 images and y_test 5 labels")
    assert len(found) == 2


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X / 255 * 2 - 1, "x_train must be uint8 (0..255), got float64 in -1..1; scale it to 0..1"),
        (X * 2.0, "x_train must be uint8 (0..255), got float64 in 0..510; scale it"),
        (X > 100, "x_train must be uint8 (0..255), got bool"),
        (X.astype(np.int16) - 1, "x_train must lie in 0..255, got -1..25"),
        (X.astype(np.int16) * 2, "x_train must lie in 0..255, got 0..5"),
        (X.reshape(12, -1), "x_train must have shape (N, H, W) or (N, H, W, C), got (12, 108)"),
        (np.float32(1), "x_train must have shape"),
        (X[:, :0], "x_train must have shape"),
        (
            X[:, :3],
            "x_train has shape (12, 3, 6, 3): either 3 x 6 images of 3 channels (NHWC), or 6 x 3 "
            "images of 3 channels (NCHW); set data.axes",
        ),
        (X[:, :5], "images are 6 wide and 5 high, networks here read square ones; set data.image"),
    ],
)
def test_images_that_do_not_do(tmp_path: Path, x: Any, message: str) -> None:
    assert message in problems(write(tmp_path, x_train=x, y_train=Y))[0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:11], "x_train has 12 images and y_train 11 labels"),
        (np.eye(3)[Y] * 2, "y_train must have shape (N,), or (N, K) with a single 1 in each row"),
        (
            Y.astype(float),
            "y_train must hold whole numbers or names, got floats (0, 1, 2 and 9 oth",
        ),
        (
            np.array([b"caf\xe9"] * 12),
            "y_train holds bytes that are not UTF-8 (b'caf\\xe9'); write",
        ),
        (np.array(["", *"ab" * 5, "a"]), "y_train has 1 empty labels; label them"),
        (
            np.array(list("aAb") * 4),
            "has 1 classes that differ in case, accents' encoding or blank",
        ),
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


def test_floats_of_another_range_in_each_part(tmp_path: Path) -> None:
    """Together they would be taken for 0..255, and the training images be black."""
    x = X.astype(np.float32)
    reported = problems(write(tmp_path, x_train=x / 255, y_train=Y, x_test=x, y_test=Y))
    assert reported[0].startswith("the parts have other ranges, x_train up to ")
    assert reported[0].endswith("scale them alike, to 0..1 or 0..255")
