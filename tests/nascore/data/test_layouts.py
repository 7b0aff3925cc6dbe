"""Layouts of image folders as people have them: what is read, what is left out, what is refused."""

import os
from pathlib import Path
from typing import Any

import pytest
from image_trees import content, names, write

from nascore.config import DataConfig
from nascore.data.findings import Finding, Findings
from nascore.data.prepared import prepare
from nascore.data.raw_dataset import Raw
from nascore.data.sources import read
from nascore.data.split_names import find_splits, split_of
from nascore.errors import InputError


def read_all(root: Path, **settings: Any) -> tuple[Raw, Findings]:
    findings = Findings()
    raw = read(DataConfig(source=f"imagefolder:{root}", **settings), None, findings)
    findings.refuse()
    return raw, findings


def refusal(root: Path, **settings: Any) -> Finding:
    with pytest.raises(InputError) as caught:
        read_all(root, **settings)
    (problem,) = caught.value.problems
    assert isinstance(problem, Finding)
    return problem


def warned(findings: Findings) -> dict[str, Finding]:
    return {warning.kind: warning for warning in findings.warnings}


# --- splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((n, "train") for n in ("train", "Training", "TRAIN", "train_images", "TrainSet")),
        *((n, "train") for n in ("trainset", "training-data", "train2017", "Images_Train")),
        *((n, "valid") for n in ("val", "Valid", "validation", "VALIDATION", "dev", "val_set")),
        *((n, "test") for n in ("test", "Testing", "eval", "evaluation", "test1", "testimages")),
        *((n, None) for n in ("bullet_train", "test_tube", "device", "images", "1", "контроль")),
        ("train_test", None),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_names_that_mean_splits_together() -> None:
    splits = {"train": ["seg_train"], "test": ["seg_test"]}
    assert find_splits(["seg_test", "seg_pred", "seg_train"]) == splits
    assert find_splits(["bullet_train", "test_tube"]) == {}


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "DEV", "EVAL"),
        ("train_set", "valid-set", "TestSet"),
        ("seg_train", "seg_dev", "seg_test"),
    ],
)
def test_splits_are_those_of_the_folders(tmp_path: Path, parts: tuple[str, str, str]) -> None:
    for number, (part, count) in enumerate(zip(parts, (5, 2, 3), strict=True)):
        write(tmp_path / "in", names(part, count=count), first=100 * number)
    raw, findings = read_all(tmp_path / "in")
    assert (raw.classes, raw.num_train, raw.num_valid, raw.num_test) == (("ant", "bee"), 10, 4, 6)
    assert raw.labels.tolist() == [0] * 5 + [1] * 5 + [0] * 2 + [1] * 2 + [0] * 3 + [1] * 3
    assert findings.warnings == []
    info = prepare(DataConfig(source=f"imagefolder:{tmp_path / 'in'}"), 0, tmp_path / "out")
    assert (info.num_train, info.num_valid, info.num_test) == (10, 4, 6)


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        (("train",), (14, 2, 4)),
        (("train", "val"), (16, 20, 4)),
        (("train", "test"), (16, 4, 20)),
        (("training", "dev", "eval"), (20, 20, 20)),
    ],
)
def test_missing_splits_are_cut_from_train(
    tmp_path: Path, parts: tuple[str, ...], sizes: tuple[int, ...]
) -> None:
    for number, part in enumerate(parts):
        write(tmp_path / "in", names(part, count=10), first=100 * number)
    config = DataConfig(source=f"imagefolder:{tmp_path / 'in'}")
    first, again = (prepare(config, 3, tmp_path / name) for name in "ab")
    assert (first.num_train, first.num_valid, first.num_test) == sizes
    for counts in first.class_counts.values():
        assert counts[0] == counts[1], "stratified"
    assert first == again
    other = prepare(config, 4, tmp_path / "c")
    assert (other.split_sha256 == first.split_sha256) == (len(parts) == 3)


def test_an_own_validation_split_is_thinned_with_the_training_images(tmp_path: Path) -> None:
    write(tmp_path / "in", names("train", count=20))
    write(tmp_path / "in", names("valid", count=10), first=100)
    write(tmp_path / "in", names("test", count=4), first=200)
    config = DataConfig(source=f"imagefolder:{tmp_path / 'in'}", max_train=30)
    info = prepare(config, 0, tmp_path / "out")
    assert (info.num_train, info.num_valid, info.num_test) == (20, 10, 8)
    assert info.class_counts["train"] == [10, 10]


@pytest.mark.parametrize("parts", [("Training", "Testing"), ("train", "test"), ("test",)])
def test_a_split_is_never_a_class(tmp_path: Path, parts: tuple[str, ...]) -> None:
    write(tmp_path, [f"{part}/{number}.png" for part in parts for number in range(4)])
    reported = refusal(tmp_path)
    assert reported.kind == "layout"
    assert reported.message.startswith("has images and no class folders in ")
    assert reported.examples == tuple(f"{sorted(parts)[0]}/{number}.png" for number in range(3))
    assert "train/CLASS/" in reported.message
    assert "data.labels" in reported.message


def test_a_split_inside_a_class_or_a_split(tmp_path: Path) -> None:
    write(
        tmp_path / "a", [f"{c}/{s}/{n}.png" for c in "xy" for s in ("train", "test") for n in "12"]
    )
    assert refusal(tmp_path / "a").message.startswith(
        "has splits inside classes: x/test/, x/train/"
    )
    write(tmp_path / "b", names("train", classes=("ant", "test")))
    assert "folders of splits where classes belong: train/test/" in refusal(tmp_path / "b").message


def test_one_class_called_train_among_others_is_reported(tmp_path: Path) -> None:
    write(tmp_path, names(classes=("ant", "bee", "train")))
    raw, findings = read_all(tmp_path)
    assert raw.classes == ("ant", "bee", "train")
    assert warned(findings)["split-name-class"].examples == ("train",)
    write(tmp_path / "x", names("train", classes=("ant", "bee", "train")))
    write(tmp_path / "x", names("test", classes=("ant", "bee", "train")), first=100)
    raw, findings = read_all(tmp_path / "x")
    assert (raw.classes, raw.num_test) == (("ant", "bee", "train"), 15)
    assert "split-name-class" in warned(findings)


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    for part in ("train", "val", "validation"):
        write(tmp_path, names(part))
    assert refusal(tmp_path).message.startswith("has val, validation for one split; keep one")


def test_an_empty_split(tmp_path: Path) -> None:
    write(tmp_path, names("train"))
    (tmp_path / "test").mkdir()
    reported = refusal(tmp_path)
    assert (reported.kind, reported.message) == (
        "empty-split",
        "test/ has no images; add some, or remove the folder",
    )


def test_test_images_without_labels_are_left_out_and_reported(tmp_path: Path) -> None:
    write(tmp_path, names("train"))
    write(tmp_path, [f"test/{number}.png" for number in range(20)], first=100)
    raw, findings = read_all(tmp_path)
    assert (len(raw.labels), raw.num_test) == (10, 0)
    reported = warned(findings)["unlabelled-files"]
    assert (reported.count, reported.examples) == (20, ("test/0.png", "test/1.png", "test/10.png"))


def test_classes_that_a_split_lacks(tmp_path: Path) -> None:
    write(tmp_path, names("train"))
    write(tmp_path, ["test/ant/0.png"], first=100)
    _, findings = read_all(tmp_path)
    assert warned(findings)["missing-class"].examples == ("bee",)
    write(tmp_path, ["valid/cow/0.png", "valid/ant/0.png"], first=200)
    with pytest.raises(InputError) as caught:
        read_all(tmp_path)
    assert caught.value.problems[0].message == (
        "valid/ has classes that train/ does not have: cow; add training images of them, or remove "
        "or rename the folders"
    )


# --- wrappers and tools -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapper", ["x", "x/x", "flowers/flower_photos", "data", "images", "a/b/c"]
)
@pytest.mark.parametrize("parts", [(), ("train", "test")])
def test_wrappers_of_unpacked_archives(
    tmp_path: Path, wrapper: str, parts: tuple[str, ...]
) -> None:
    for number, part in enumerate(parts or ("",)):
        write(tmp_path / wrapper, names(part), first=100 * number)
    (tmp_path / wrapper / "LICENSE.txt").write_text("free")
    (tmp_path / wrapper.partition("/")[0]).with_name("annotations").mkdir()
    raw, _ = read_all(tmp_path)
    assert raw.classes == ("ant", "bee")
    assert raw.num_test == (10 if parts else 0)


def test_a_wrapper_inside_each_split(tmp_path: Path) -> None:
    write(tmp_path, names("seg_train/seg_train"))
    write(tmp_path, names("seg_test/seg_test"), first=100)
    write(tmp_path, [f"seg_pred/seg_pred/{number}.jpg" for number in range(3)], first=200)
    raw, findings = read_all(tmp_path)
    assert (raw.classes, raw.num_test) == (("ant", "bee"), 10)
    assert warned(findings)["unlabelled-files"].count == 3


def test_what_tools_put_there_is_left_out_and_reported(tmp_path: Path) -> None:
    write(tmp_path, names())
    tools = ["__MACOSX/ant/._0.png", "ant/.ipynb_checkpoints/0-checkpoint.png", "bee/@eaDir/0.png"]
    tools += [".cache/x.png", "ant/._1.png"]
    write(tmp_path, tools, first=100)
    for name in ("Thumbs.db", "ant/.DS_Store", "desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    raw, findings = read_all(tmp_path)
    assert (raw.classes, len(raw.labels)) == (("ant", "bee"), 10)
    reported = warned(findings)["skipped-files"]
    assert reported.count == 8
    assert reported.message.startswith(
        "8 hidden files or files of tools were left out: .cache/x.png"
    )


def test_two_folders_deep_is_reported(tmp_path: Path) -> None:
    write(tmp_path, [f"{a}/{b}/{n}.png" for a in ("day", "night") for b in "xy" for n in "1234"])
    raw, findings = read_all(tmp_path)
    assert raw.classes == ("day", "night")
    reported = warned(findings)["nested-folders"]
    assert reported.examples == ("day/", "night/")
    assert "if x, y are the classes, move them out of these folders" in reported.message
    write(tmp_path / "mixed", names(classes=("cow",)))
    write(tmp_path / "mixed", [f"birds/{b}/{n}.png" for b in ("owl", "tit") for n in "1234"])
    raw, findings = read_all(tmp_path / "mixed")
    assert raw.classes == ("birds", "cow")
    assert warned(findings)["nested-folders"].examples == ("birds/",)


def test_a_folder_for_the_images_of_each_class_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, [f"{c}/images/{n}.png" for c in ("n01", "n02") for n in range(4)])
    assert read_all(tmp_path)[1].warnings == []


@pytest.mark.parametrize(
    ("paths", "reported"),
    [
        (["data/train/ant/", "data/train/bee/", "figures/"], "has splits inside classes: data/tr"),
        (["data/ant/", "data/bee/", "extra/"], "has folders next to data/, which holds folders"),
        (["images/", "masks/"], "has images, masks, which look like images and their masks"),
        (["train/image/", "train/label/"], "has image, label, which look like images and their"),
        (["images/"], "has no class folders with images in images/, only images"),
        (["valid/", "invalid/"], "has images and no class folders in valid/"),
    ],
)
def test_folders_that_are_no_classes(tmp_path: Path, paths: list[str], reported: str) -> None:
    write(tmp_path, [f"{path}{number}.png" for path in paths for number in range(6)])
    found = refusal(tmp_path)
    assert (found.kind, len(found.examples)) == ("layout", 3)
    assert found.message.startswith(reported)
    assert "put the images of each class into a folder of its name" in found.message


def test_a_class_that_is_called_like_a_split_may_be_renamed(tmp_path: Path) -> None:
    write(tmp_path, names(classes=("valid", "invalid")))
    assert "a folder of this name is a split; rename it if it is a" in refusal(tmp_path).message


@pytest.mark.parametrize("pieces", [("part_1", "part_2"), ("images_001", "images_002")])
def test_pieces_of_one_set_are_no_classes(tmp_path: Path, pieces: tuple[str, str]) -> None:
    write(tmp_path, [f"{piece}/{number}.png" for piece in pieces for number in range(4)])
    assert refusal(tmp_path).message.startswith("has folders that look like pieces of one set")


def test_images_next_to_class_folders(tmp_path: Path) -> None:
    write(tmp_path, names(count=100))
    write(tmp_path, ["preview.png"], first=1000)
    _, findings = read_all(tmp_path)
    assert warned(findings)["unlabelled-files"].examples == ("preview.png",)
    write(tmp_path, [f"loose{number}.png" for number in range(9)], first=2000)
    reported = refusal(tmp_path)
    assert reported.kind == "unlabelled-files"
    assert reported.message.startswith("10 images have no label, since they lie in no class folder")
    assert len(read_all(tmp_path, allow_skipped=True)[0].labels) == 200


# --- files ------------------------------------------------------------------------------------


ENDINGS = [
    *("jpg", "jpeg", "jfif", "png", "apng", "bmp", "webp", "tif", "tiff", "gif", "avif", "ppm"),
    *("pgm", "jp2", "tga", "qoi", "ico"),
]


@pytest.mark.parametrize("ending", [*ENDINGS, "JPG", "Tiff"])
def test_every_ending_that_pillow_opens(tmp_path: Path, ending: str) -> None:
    write(tmp_path, [f"{c}/{n}.{ending}" for c in ("ant", "bee") for n in range(3)], size=16)
    raw, findings = read_all(tmp_path, image_size=16)
    assert len(raw.labels) == 6
    assert "skipped-files" not in warned(findings)


def test_files_without_an_ending_are_known_by_their_content(tmp_path: Path) -> None:
    write(tmp_path, [f"{c}/{n}" for c in ("ant", "bee") for n in ("0", "1", "2.7", "3.jpg_large")])
    (tmp_path / "ant" / "Makefile").write_text("all:")
    raw, _ = read_all(tmp_path)
    assert len(raw.labels) == 8


def test_what_is_not_read_is_reported_by_ending(tmp_path: Path) -> None:
    write(tmp_path, names(count=200))
    for name in ("ant/a.svg", "bee/b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "ant" / "notes.txt").write_text("no image, and not meant as one")
    _, findings = read_all(tmp_path)
    reported = warned(findings)["skipped-files"]
    assert reported.count == 2
    assert reported.message == (
        "2 files are no images that can be read (.svg 1, .mp4 1): ant/a.svg, bee/b.mp4; they were "
        "left out"
    )


def test_more_than_one_percent_of_a_class_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, names(count=99))
    (tmp_path / "ant" / "a.heic").write_bytes(b"x")
    read_all(tmp_path)
    (tmp_path / "ant" / "b.heic").write_bytes(b"x")
    reported = refusal(tmp_path)
    assert (reported.kind, reported.count) == ("skipped-files", 2)
    assert "these are 2 of 101 of class ant" in reported.message
    assert "pillow-heif" in reported.message
    assert "data.allow_skipped=true" in reported.message
    assert len(read_all(tmp_path, allow_skipped=True)[0].labels) == 198


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path, names())
    (tmp_path / "ant" / "gone.png").symlink_to("nothing.png")
    (tmp_path / "bee" / "loop.png").symlink_to("loop.png")
    (tmp_path / "ant" / "up").symlink_to(tmp_path)
    reported = refusal(tmp_path)
    assert (reported.kind, reported.count) == ("broken-link", 3)
    assert reported.examples == ("ant/gone.png", "ant/up", "bee/loop.png")


def test_links_to_files_and_classes_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "store", names())
    (tmp_path / "in").mkdir()
    for name in ("ant", "bee"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "store" / name)
    assert len(read_all(tmp_path / "in")[0].labels) == 10


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    write(tmp_path, names())
    for number in range(4):
        name = os.fsencode(tmp_path / "ant") + b"/caf\xe9%d.png" % number
        with open(name, "wb") as file:
            file.write(content(100 + number))
    reported = refusal(tmp_path)
    assert reported.kind == "unreadable-name"
    assert reported.message == (
        "4 names are not UTF-8: ant/caf\\udce90.png, ant/caf\\udce91.png, ant/caf\\udce92.png and "
        "1 other; rename the files"
    )


@pytest.mark.parametrize(
    "pair",
    [
        ("Ant", "ant"),
        ("caf\u00e9", "cafe\u0301"),
        ("hot dog", "hot_dog"),
        ("hot dog", "hot  dog"),
        ("ant", "ant\u200b"),
        ("7", "007"),
    ],
)
def test_classes_that_look_alike(tmp_path: Path, pair: tuple[str, str]) -> None:
    write(tmp_path, names(classes=(*pair, "bee")))
    reported = refusal(tmp_path)
    assert reported.kind == "class-names"
    assert reported.message.startswith(
        "has 1 classes that differ in case, accents' encoding or blanks"
    )


def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nascore.data import image_folders

    write(tmp_path, names())
    decode = image_folders.decode_all

    def later(*arguments: Any, **settings: Any) -> Any:
        write(tmp_path, ["bee/3.png"], first=777)
        return decode(*arguments, **settings)

    monkeypatch.setattr(image_folders, "decode_all", later)
    reported = refusal(tmp_path)
    assert (reported.kind, reported.examples) == (
        "changed-file",
        (str(tmp_path / "bee" / "3.png"),),
    )


def test_images_around_a_wrapper_are_reported(tmp_path: Path) -> None:
    write(tmp_path / "x", names(count=200))
    write(tmp_path, ["preview.png"], first=1000)
    raw, findings = read_all(tmp_path)
    assert len(raw.labels) == 400
    assert warned(findings)["unlabelled-files"].examples == ("preview.png",)


def test_a_folder_that_holds_archives_or_tables_of_images(tmp_path: Path) -> None:
    for name in ("train.zip", "test.zip", "data-00000.parquet"):
        (tmp_path / name).write_bytes(b"x")
    message = refusal(tmp_path, labels="folders").message
    assert message.startswith("has no class folders with images, and holds ")
    assert "name one of them (parquet:PATH, or imagefolder:PATH of an archive)" in message


def test_torchvision_gtsrb(tmp_path: Path) -> None:
    """Numbered classes, a table in each, and test images without labels."""
    root = tmp_path / "gtsrb" / "GTSRB"
    write(root, [f"Training/{c:05}/{n}.ppm" for c in range(3) for n in range(5)])
    for c in range(3):
        rows = "".join(f"{n}.ppm;{c}\n" for n in range(5))
        (root / "Training" / f"{c:05}" / f"GT-{c:05}.csv").write_text(f"Filename;ClassId\n{rows}")
    write(root, [f"Final_Test/Images/{n}.ppm" for n in range(4)], first=100)
    raw, findings = read_all(tmp_path)
    assert raw.classes == ("00000", "00001", "00002")
    assert len(raw.labels) == 15
    assert {warning.kind for warning in findings.warnings} == {"unlabelled-files"}


def test_archives_within_a_data_set_are_no_single_files(tmp_path: Path) -> None:
    write(tmp_path, names("train", count=200))
    (tmp_path / "test.zip").write_bytes(b"PK")
    reported = refusal(tmp_path)
    assert (reported.kind, reported.examples) == ("skipped-files", ("test.zip",))
    assert "archives within a data set are not read: unpack them" in reported.message
    assert read_all(tmp_path, allow_skipped=True)[0].classes == ("ant", "bee")


def test_a_folder_without_images_says_what_was_seen_and_what_to_do(tmp_path: Path) -> None:
    for name in ("ant/0.npy", "bee/0.npy"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    reported = refusal(tmp_path)
    assert reported.message.startswith(
        "has no class folders with images; seen were ant/0.npy, bee/0.npy, and none of them is an"
    )
    assert "put the images of each class into a folder of its name" in reported.message


def test_a_split_whose_name_is_misspelt(tmp_path: Path) -> None:
    write(tmp_path, [*names("trian"), *names("test")])
    assert "has a folder test/ but no train/ (and trian/, no split's name); add or rename it" in (
        refusal(tmp_path).message
    )


def test_parquet_in_a_folder_of_its_own_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    assert "name one of them (parquet:PATH" in refusal(tmp_path).message
