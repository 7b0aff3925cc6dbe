"""Splits of different classes: where they come from, and all that may be wrong with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nascore.config import DataConfig
from nascore.data.batches import Splits, load
from nascore.data.class_splits import ClassSplits, EpisodeShape, Need
from nascore.data.episodes import FewShotData
from nascore.data.prepared import DatasetInfo, prepare
from nascore.data.raw_dataset import Raw
from nascore.data.sources import read
from nascore.errors import InputError

THIRDS: dict[str, Any] = {"valid_fraction": 0.3, "test_fraction": 0.3}


def config(source: object, **settings: Any) -> DataConfig:
    return DataConfig(source=str(source), split_by="class", **settings)


def save(root: Path, classes: Sequence[str], count: int = 3) -> None:
    """Grey images whose value tells the class and the number."""
    for label, name in enumerate(classes):
        for number in range(count):
            path = root / name / f"{label}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (6, 6), 20 * label + number).save(path)


def write_tables(root: Path, **labels: Sequence[str]) -> None:
    for split, names in labels.items():
        rows = "".join(f"{name}_{number}.jpg,{name}\n" for name in names for number in range(2))
        (root / f"{split}.csv").write_text(f"filename,label\n{rows}")


def messages(source: object, **settings: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(config(source, **settings))
    assert {problem.key for problem in caught.value.problems} == {"data.source"}
    return [problem.message for problem in caught.value.problems]


def names_of(raw: Raw) -> dict[str, list[str]]:
    assert raw.class_splits is not None
    return {
        split: [raw.classes[label] for label in raw.class_splits.of(split)]
        for split in ("train", "valid", "test")
    }


# --- prepared ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "digits"
    prepare(config("digits", **THIRDS), 0, folder)
    return folder


def test_digits_are_split_four_three_three(digits: Path) -> None:
    info = DatasetInfo.load(digits)
    assert info.class_splits is not None
    parts = [info.names_of(split) for split in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted(sum(parts, ())) == list("0123456789")
    for split, names in zip(("train", "valid", "test"), parts, strict=True):
        counted = [c for c, n in zip(info.classes, info.class_counts[split], strict=True) if n]
        assert counted == list(names)
    assert info.num_train + info.num_valid + info.num_test == info.num_images == 1797
    assert DatasetInfo.from_dict(info.to_dict()) == info


def test_tasks_of_prepared_data_are_its_images(digits: Path) -> None:
    splits = load(digits, torch.device("cpu"))
    data = FewShotData(splits)
    assert splits.info.class_splits == data.splits
    drawn = data.sampler("valid", EpisodeShape(3, 2, 4)).draw(5, torch.Generator().manual_seed(0))
    known = {
        (x.numpy().tobytes(), int(label))
        for x, label in zip(splits.valid.pixels_at(range(530)), splits.valid.labels, strict=True)
    }
    raw = ((drawn.query_x * data._std + data._mean) * 255).round().to(torch.uint8)
    for task, labels, classes in zip(raw, drawn.query_y, drawn.classes, strict=True):
        for image, label in zip(task, labels, strict=True):
            assert (image.numpy().tobytes(), int(classes[label])) in known


class Untouchable:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a task was drawn from {name} of the test images")


def test_what_draws_no_test_task_touches_no_test_image(digits: Path) -> None:
    splits = load(digits, torch.device("cpu"))
    guarded = Splits(splits.info, splits.train, splits.valid, Untouchable())  # type: ignore[arg-type]
    data = FewShotData(guarded)
    used = set()
    for split in ("train", "valid"):
        sampler = data.sampler(split, EpisodeShape(3, 1, 5))
        sampler.draw(50, torch.Generator().manual_seed(0))
        used |= sampler.used
    assert used == {*data.splits.train, *data.splits.valid}
    with pytest.raises(AssertionError, match="a task was drawn"):
        data.sampler("test", EpisodeShape(3, 1, 5))


def test_data_that_is_split_by_images_has_no_tasks(digits_folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.split_by = image"):
        FewShotData(load(digits_folder, torch.device("cpu")))


def test_normalised_by_the_training_classes(digits: Path) -> None:
    splits = load(digits, torch.device("cpu"))
    pixels = torch.cat(list(splits.train.pixel_batches(4096))).double() / 255
    assert splits.info.mean[0] == pytest.approx(float(pixels.mean()))
    assert splits.info.std[0] == pytest.approx(float(pixels.std(correction=0)))


def test_fewer_images_of_each_training_and_validation_class(tmp_path: Path) -> None:
    info = prepare(config("digits", max_train=140, **THIRDS), 0, tmp_path / "out")
    kept = [n for split in ("train", "valid") for n in info.class_counts[split] if n]
    assert sum(kept) == 140
    assert min(kept) >= 19
    assert info.num_test > 500


def test_classes_do_not_depend_on_what_else_is_asked(tmp_path: Path) -> None:
    """The hash of the data is the same whatever the split."""
    first = prepare(config("digits", **THIRDS), 0, tmp_path / "a")
    again = prepare(config("digits", **THIRDS), 0, tmp_path / "b")
    other = prepare(config("digits", **THIRDS), 1, tmp_path / "c")
    by_image = prepare(DataConfig(), 0, tmp_path / "d")
    assert first == again
    assert first.class_splits != other.class_splits
    assert first.data_sha256 == other.data_sha256 == by_image.data_sha256
    assert len({one.split_sha256 for one in (first, other, by_image)}) == 3


# --- what the data lacks ----------------------------------------------------------------------


def refused(folder: Path, source: str, needs: Sequence[Need], **settings: Any) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        prepare(config(source, **settings), 0, folder / "out", needs=needs)
    assert not (folder / "out").exists()
    return {f"{p.key} = {p.value}": p.message for p in caught.value.problems}


def test_fewer_classes_than_ways_and_images_than_a_task_takes(tmp_path: Path) -> None:
    save(tmp_path / "in", ["a", "b", "c", "d", "e", "f"], count=4)
    source = f"imagefolder:{tmp_path / 'in'}"
    shapes = (EpisodeShape(3, 1, 4), EpisodeShape(2, 1, 3))
    found = refused(tmp_path, source, [Need(shape) for shape in shapes], test_fraction=0.2)
    assert set(found) == {"episode.ways = 3", "episode.shots + queries = 5", "episode.ways = 2"}
    assert "only 1 test classes" in found["episode.ways = 2"]
    assert "data.test_fraction" in found["episode.ways = 2"]


def test_every_problem_of_a_kind_is_reported_of_its_split(tmp_path: Path) -> None:
    save(tmp_path / "in", list("abcdefgh"), count=4)
    need = Need(EpisodeShape(2, 1, 4), ("train", "test"), images="search.options.test_shots")
    with pytest.raises(InputError) as caught:
        prepare(
            config(f"imagefolder:{tmp_path / 'in'}", **THIRDS), 0, tmp_path / "out", needs=[need]
        )
    assert [str(problem).partition(";")[0] for problem in caught.value.problems] == [
        "search.options.test_shots = 5: 4 of 4 train classes have fewer images, one of them 4",
        "search.options.test_shots = 5: 2 of 2 test classes have fewer images, one of them 4",
    ]


def test_fewer_than_three_groups(tmp_path: Path) -> None:
    save(tmp_path / "in", [f"{group}/{name}" for group in "gh" for name in "abc"])
    source = f"imagefolder:{tmp_path / 'in'}"
    found = refused(tmp_path, source, [Need(EpisodeShape(2, 2, 3))])
    assert "has 2 groups of classes" in found[f"data.source = {source}"]
    assert "6 of 6 classes have fewer images" in found["episode.shots + queries = 5"]


def test_images_that_do_not_fit_in_memory(tmp_path: Path) -> None:
    save(tmp_path / "in", list("abcdef"))
    found = refused(
        tmp_path, f"imagefolder:{tmp_path / 'in'}", [], image_size=512, memory_limit_mb=1
    )
    assert "drawn from memory" in found["data.memory_limit_mb = 1"]


# --- folders ----------------------------------------------------------------------------------


def test_folders_of_folders_are_groups(tmp_path: Path) -> None:
    save(tmp_path / "in", [f"{group}/{name}" for group in "xyzw" for name in ("1", "2")])
    raw = read(config(f"imagefolder:{tmp_path / 'in'}"))
    assert raw.classes == ("w/1", "w/2", "x/1", "x/2", "y/1", "y/2", "z/1", "z/2")
    assert raw.groups == tuple("wwxxyyzz")
    assert raw.class_splits is None
    info = prepare(config(f"imagefolder:{tmp_path / 'in'}", **THIRDS), 0, tmp_path / "out")
    assert info.class_splits is not None
    for split in ("train", "valid", "test"):
        assert len(info.names_of(split)) == 2 * len({n[0] for n in info.names_of(split)})
    assert DatasetInfo.load(tmp_path / "out") == info


def test_own_test_images_are_images_like_others(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 1)):
        save(tmp_path / part, list("abcd"), count)
    raw = read(config(f"imagefolder:{tmp_path}"))
    assert np.bincount(raw.labels).tolist() == [4, 4, 4, 4]
    assert (raw.num_test, raw.class_splits) == (0, None)
    assert "test/ has classes that train/ does" in _of(tmp_path / "test" / "e")[0]


def _of(folder: Path) -> list[str]:
    save(folder.parent, [folder.name])
    return messages(f"imagefolder:{folder.parent.parent}")


@pytest.mark.parametrize("valid", ["val", "valid"])
def test_three_parts_are_published_splits(tmp_path: Path, valid: str) -> None:
    for part, classes in (("train", "db"), (valid, "ca"), ("test", "e")):
        save(tmp_path / part, list(classes))
    raw = read(config(f"imagefolder:{tmp_path}"))
    assert names_of(raw) == {"train": ["b", "d"], "valid": ["a", "c"], "test": ["e"]}
    assert raw.images is not None
    assert len(raw.images) == 15
    prepared = prepare(config(f"imagefolder:{tmp_path}"), 5, tmp_path / "out")
    assert prepared.class_splits == raw.class_splits, "nothing is drawn"


def test_parts_that_share_classes(tmp_path: Path) -> None:
    for part, classes in (("train", "abc"), ("val", "cd"), ("test", "ae")):
        save(tmp_path / part, list(classes))
    (tmp_path / "more").mkdir()
    assert [message.partition(";")[0] for message in messages(f"imagefolder:{tmp_path}")] == [
        "has folders next to train/, val/, test/: more",
        "train/ and val/ share 1 classes: c",
        "train/ and test/ share 1 classes: a",
    ]


def test_classes_and_groups_side_by_side(tmp_path: Path) -> None:
    save(tmp_path, ["g/a", "g/b", "h/a", "c"])
    assert "c have images and g, h do not" in messages(f"imagefolder:{tmp_path}")[0]


# --- tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "images"])
def test_tables_of_published_splits_with_class_folders(tmp_path: Path, inside: str) -> None:
    save(tmp_path / inside, ["n1", "n2", "n3", "n4", "n5"])
    write_tables(tmp_path, train=["n4", "n1"], val=["n5"], test=["n2"])
    raw = read(config(f"imagefolder:{tmp_path}"))
    assert names_of(raw) == {"train": ["n1", "n4"], "valid": ["n5"], "test": ["n2"]}
    assert np.bincount(raw.labels).tolist() == [3, 3, 3, 3]
    assert raw.images is not None
    assert {int(x[0, 0, 0]) // 20 for x in raw.images[raw.labels == 1]} == {1}, "those of n2"


def test_tables_of_published_splits_with_one_folder(tmp_path: Path) -> None:
    names = {"train": ["n1", "n2"], "val": ["n3"], "test": ["n4"]}
    (tmp_path / "images").mkdir()
    for label, name in enumerate(["n1", "n2", "n3", "n4"]):
        for number in range(2):
            path = tmp_path / "images" / f"{name}_{number}.jpg"
            Image.new("L", (6, 6), 50 * label).save(path)
    write_tables(tmp_path, **names)
    raw = read(config(f"imagefolder:{tmp_path}"))
    assert names_of(raw) == {"train": ["n1", "n2"], "valid": ["n3"], "test": ["n4"]}
    assert raw.images is not None
    assert (raw.images[:, 0, 0, 0] // 50).tolist() == raw.labels.tolist()
    (tmp_path / "images" / "n3_0.jpg").unlink()
    assert "val.csv names n3_0.jpg, and neither" in messages(f"imagefolder:{tmp_path}")[0]


def test_tables_that_share_classes_and_other_faults(tmp_path: Path) -> None:
    save(tmp_path, ["n1", "n2", "n3"])
    write_tables(tmp_path, train=["n1", "n2"], val=["n2", "n3"], test=["n9"])
    reported = messages(f"imagefolder:{tmp_path}")
    assert "test.csv names n9_0.jpg, and neither a folder n9" in reported[0]
    assert reported[-2].startswith("train.csv and val.csv share 1 classes: n2")
    assert reported[-1].startswith("test.csv names no class")
    (tmp_path / "val.csv").unlink()
    assert messages(f"imagefolder:{tmp_path}")[0].startswith(
        "has train.csv, test.csv and no val.csv"
    )
    (tmp_path / "val.csv").write_text("name,class\na,b\n")
    assert any(
        "val.csv has no column called label" in m for m in messages(f"imagefolder:{tmp_path}")
    )
    (tmp_path / "val.csv").write_bytes(b"label\n\xff\xfe\n")
    assert any("cannot read val.csv" in m for m in messages(f"imagefolder:{tmp_path}"))


def test_tables_mean_nothing_where_splits_share_their_classes(tmp_path: Path) -> None:
    save(tmp_path, ["n1", "n2"])
    write_tables(tmp_path, train=["n1"])
    assert read(DataConfig(source=f"imagefolder:{tmp_path}")).classes == ("n1", "n2")


# --- archives ---------------------------------------------------------------------------------

X = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)


def test_archive_with_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X, y_train=np.arange(12) % 4, groups=np.array(list("gghi")))
    raw = read(config(f"npz:{path}"))
    assert raw.groups == ("g", "g", "h", "i")
    np.savez(path, x_train=X, y_train=np.arange(12) % 4, groups=np.array(["g", "h"]))
    assert "groups must have shape (4,)" in messages(f"npz:{path}")[0]


def test_archive_with_classes_for_each_split(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    parts = {"train": [7, 7, 3, 3], "valid": [5, 5, 5, 5], "test": [4, 4, 9, 9]}
    arrays: dict[str, Any] = {}
    for number, (part, y) in enumerate(parts.items()):
        arrays |= {f"x_{part}": X[4 * number : 4 * number + 4], f"y_{part}": np.array(y)}
    np.savez(path, **arrays)
    raw = read(config(f"npz:{path}"))
    assert names_of(raw) == {"train": ["3", "7"], "valid": ["5"], "test": ["4", "9"]}
    assert raw.num_test == 0
    np.savez(path, **{**arrays, "y_test": np.array([3, 3, 5, 9])})
    reported = messages(f"npz:{path}")
    assert [m.partition(";")[0] for m in reported[:2]] == [
        "y_train and y_test share 1 classes: 3",
        "y_valid and y_test share 1 classes: 5",
    ]
    np.savez(path, **{k: v for k, v in arrays.items() if k not in ("x_test", "y_valid")})
    assert [m.partition(";")[0] for m in messages(f"npz:{path}")] == [
        "has no array y_valid",
        "has no array x_test",
    ]


def test_archive_whose_test_images_are_of_the_same_classes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X[:9], y_train=np.arange(9) % 3, x_test=X[9:], y_test=np.arange(3))
    raw = read(config(f"npz:{path}"))
    assert (raw.num_test, np.bincount(raw.labels).tolist()) == (0, [4, 4, 4])
    assert read(DataConfig(source=f"npz:{path}")).num_test == 3


# --- omniglot ---------------------------------------------------------------------------------


def test_omniglot_as_torchvision_lays_it_out(tmp_path: Path) -> None:
    root = tmp_path / "omniglot-py"
    save(
        root / "images_background", ["Greek/character01", "Greek/character02", "Latin/character01"]
    )
    save(root / "images_evaluation", ["Tengwar/character01"])
    (root / "images_background.zip").write_bytes(b"left by the download")
    raw = read(config("omniglot", root=tmp_path, image_size=5))
    assert raw.classes[0] == "Greek/character01"
    assert raw.groups == ("Greek", "Greek", "Latin", "Tengwar")
    assert raw.images is not None
    assert raw.images.shape == (12, 5, 5, 1)
    values = [sorted(raw.images[raw.labels == label][:, 0, 0, 0].tolist()) for label in range(4)]
    assert values == [[0, 1, 2], [20, 21, 22], [40, 41, 42], [0, 1, 2]]
    info = prepare(config("omniglot", root=tmp_path), 0, tmp_path / "out")
    assert info.class_splits is not None
    assert isinstance(info.class_splits, ClassSplits)


def test_omniglot_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.omniglot as module

    def no_network(*args: object, **settings: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(module, "download_and_extract_archive", no_network)
    with pytest.raises(InputError, match="omniglot is not there and cannot be downloaded"):
        read(config("omniglot", root=tmp_path))
    (tmp_path / "omniglot-py" / "images_background").mkdir(parents=True)
    with pytest.raises(InputError, match="no class folders with images"):
        read(config("omniglot", root=tmp_path))


def test_omniglot_for_offline_use(offline_data: Path, tmp_path: Path) -> None:
    """The real drawings, as an archive: alphabets stay whole."""
    pack = np.load(offline_data / "omniglot_small.npz")
    ink = np.unpackbits(pack["packed"], axis=1)[:, : 105 * 105].reshape(-1, 105, 105)
    x = ink[:, ::4, ::4] * np.uint8(255)
    first = [int(np.flatnonzero(pack["label"] == label)[0]) for label in range(185)]
    groups = pack["alphabet_names"][pack["alphabet"][first]]
    np.savez(tmp_path / "o.npz", x_train=x, y_train=pack["label"].astype(np.int64), groups=groups)
    need = Need(EpisodeShape(5, 5, 15))
    info = prepare(config(f"npz:{tmp_path / 'o.npz'}"), 0, tmp_path / "out", needs=[need])
    assert info.class_splits is not None
    assert info.groups is not None
    parts = [
        {info.groups[label] for label in info.class_splits.of(split)}
        for split in ("train", "valid", "test")
    ]
    assert [len(part) for part in parts] == [4, 1, 1]
    assert len(set().union(*parts)) == 6
