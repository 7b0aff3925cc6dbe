"""Labels in tables: the exports of Kaggle, Roboflow and Hugging Face, and tables by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from image_trees import names, write

from nascore.config import DataConfig
from nascore.data.findings import Finding, Findings, merged
from nascore.data.prepared import prepare
from nascore.data.raw_dataset import Raw
from nascore.data.sources import read
from nascore.errors import InputError

FILES = [f"{number:03}.png" for number in range(10)]
LABELS = ["ant", "bee"] * 5


def read_all(root: Path, **settings: Any) -> tuple[Raw, Findings]:
    findings = Findings()
    raw = read(DataConfig(source=f"imagefolder:{root}", **settings), None, findings)
    findings.refuse()
    return raw, findings


def problems(root: Path, **settings: Any) -> dict[str, Finding]:
    with pytest.raises(InputError) as caught:
        read_all(root, **settings)
    return {p.kind: p for p in caught.value.problems if isinstance(p, Finding)}


def message(root: Path, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_all(root, **settings)
    return str(caught.value)


def labels_of(raw: Raw) -> dict[str, str]:
    return {name: raw.classes[label] for name, label in zip(raw.names, raw.labels, strict=True)}


def table(rows: Sequence[Sequence[object]], delimiter: str = ",") -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in rows)


def expected(prefix: str = "images/") -> dict[str, str]:
    return {f"{prefix}{name}": label for name, label in zip(FILES, LABELS, strict=True)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write(tmp_path, [f"images/{name}" for name in FILES])


# --- forms of tables --------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_delimiters_and_encodings(
    images: Path, delimiter: str, encoding: str, line_end: str
) -> None:
    text = table([("file", "label"), *zip(FILES, LABELS, strict=True)], delimiter)
    (images / "labels.csv").write_bytes(text.replace("\n", line_end).encode(encoding))
    raw, findings = read_all(images)
    assert labels_of(raw) == expected()
    (reported,) = findings.warnings
    assert (
        reported.message == "labels are those of labels.csv: files from 'file', labels from 'label'"
    )


def test_quotes_and_blanks(images: Path) -> None:
    rows = [
        (f'"{name}"', f' "{label}, the ""small"" one" ') for name, label in expected("").items()
    ]
    (images / "labels.csv").write_text(
        "file, label\n" + "".join(f"{a},{b.strip()}\n" for a, b in rows)
    )
    raw, _ = read_all(images)
    assert raw.classes == ('ant, the "small" one', 'bee, the "small" one')


def test_excel_says_its_delimiter(images: Path) -> None:
    text = "sep=;\r\n" + table([("file", "label"), *zip(FILES, LABELS, strict=True)], ";")
    (images / "labels.csv").write_text(text, encoding="utf-8-sig")
    assert labels_of(read_all(images)[0]) == expected()


def test_a_table_without_a_header(images: Path) -> None:
    (images / "labels.csv").write_text(table([*zip(FILES, LABELS, strict=True)]))
    assert labels_of(read_all(images)[0]) == expected()


@pytest.mark.parametrize("name", ["labels.tsv", "labels.jsonl", "labels.parquet"])
def test_other_kinds_of_tables(images: Path, name: str) -> None:
    if name.endswith(".parquet"):
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(arrow.table({"file": FILES, "label": LABELS}), images / name)
    elif name.endswith(".jsonl"):
        rows = [{"file": f, "label": label} for f, label in zip(FILES, LABELS, strict=True)]
        (images / name).write_text("\n".join(map(json.dumps, rows)))
    else:
        rows_ = [("file", "label"), *zip(FILES, LABELS, strict=True)]
        (images / name).write_text(table(rows_, "\t"))
    assert labels_of(read_all(images)[0]) == expected()
    assert labels_of(read_all(images, labels=name)[0]) == expected()


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"", "is empty; write a header"),
        (b"file,label\n\xff\xfe,a\n", "is not UTF-8"),
        (b"file,label\n000.png,ant\n001.png,ant,x\n", "has 1 rows with more or fewer cells"),
        (b"file,file\n000.png,ant\n", "has columns of one name: file"),
    ],
)
def test_tables_that_cannot_be_read(images: Path, content: bytes, reported: str) -> None:
    (images / "labels.csv").write_bytes(content)
    assert f"data.labels = labels.csv: {reported}" in message(images, labels="labels.csv")
    (images / "bad.jsonl").write_text('{"file": 1}\n{')
    assert "line 2 is no JSON" in message(images, labels="bad.jsonl")


# --- columns ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["file", "File Name", "image_path", "id", "image", "anything"])
@pytest.mark.parametrize("label", ["label", "Class", "target", "category", "breed", "whatever"])
def test_columns_are_known_by_name_or_content(images: Path, file: str, label: str) -> None:
    rows = [("", file, label), *((n, f, c) for n, (f, c) in enumerate(expected("").items()))]
    (images / "labels.csv").write_text(table(rows))
    assert labels_of(read_all(images)[0]) == expected()


def test_columns_can_be_named(images: Path) -> None:
    rows = [("a", "b", "c", "d"), *((f, "x", c, "train") for f, c in expected("").items())]
    (images / "labels.csv").write_text(table(rows))
    assert "set data.label_column to one of b, c, d" in message(images, labels="labels.csv")
    raw, _ = read_all(images, labels="labels.csv", label_column="c")
    assert labels_of(raw) == expected()
    reported = message(images, labels="labels.csv", label_column="e")
    assert "data.label_column = e: labels.csv has no such column; it has a, b, c, d" in reported


@pytest.mark.parametrize(
    "form",
    [
        "{0}",
        "images/{0}",
        "./images/{0}",
        "images\\{0}",
        "/home/me/images/{0}",
        "{1}",
        "images/{1}",
        "https://example.org/images/{0}?raw=1",
    ],
)
def test_files_are_named_in_many_ways(images: Path, form: str) -> None:
    rows = [(form.format(name, name[:-4]), label) for name, label in expected("").items()]
    (images / "labels.csv").write_text(table([("file", "label"), *rows]))
    assert labels_of(read_all(images)[0]) == expected()


def test_names_in_another_case(tmp_path: Path) -> None:
    write(tmp_path, [f"IMG_{number}.PNG" for number in range(6)])
    rows = [(f"img_{number}.png", "ab"[number % 2]) for number in range(6)]
    (tmp_path / "labels.csv").write_text(table([("file", "label"), *rows]))
    assert labels_of(read_all(tmp_path)[0])["IMG_1.PNG"] == "b"


def test_one_column_a_class(images: Path) -> None:
    rows = [(f, int(c == "ant"), int(c == "bee")) for f, c in expected("").items()]
    (images / "labels.csv").write_text(table([("image_id", "ant", "bee"), *rows]))
    assert labels_of(read_all(images)[0]) == expected()
    rows[0] = (FILES[0], 1, 1)
    (images / "labels.csv").write_text(table([("image_id", "ant", "bee"), *rows]))
    reported = problems(images)["several-labels"]
    assert (reported.count, reported.examples) == (1, ("000.png",))
    assert "000.png (ant, bee)" in reported.message


def test_a_split_column(images: Path) -> None:
    splits = ["train"] * 6 + ["VAL"] * 2 + ["Testing"] * 2
    rows = [(f, c, s) for (f, c), s in zip(expected("").items(), splits, strict=True)]
    (images / "labels.csv").write_text(table([("file", "label", "Split"), *rows]))
    raw, _ = read_all(images)
    assert (raw.num_train, raw.num_valid, raw.num_test) == (6, 2, 2)
    rows[3] = (*rows[3][:2], "other")
    (images / "labels.csv").write_text(table([("file", "label", "Split"), *rows]))
    reported = problems(images, labels="labels.csv", label_column="label", split_column="Split")
    assert reported["unknown-split"].examples == ("003.png",)


# --- exports ----------------------------------------------------------------------------------


def test_kaggle_with_ids_and_a_test_folder_without_labels(tmp_path: Path) -> None:
    ids = [f"{number:08x}" for number in range(10)]
    write(tmp_path, [f"train/{one}.jpg" for one in ids])
    write(tmp_path, [f"test/{number:08x}.jpg" for number in range(50, 70)], first=50)
    (tmp_path / "train.csv").write_text(table([("id", "breed"), *zip(ids, LABELS, strict=True)]))
    (tmp_path / "test.csv").write_text("id\n" + "".join(f"{n:08x}\n" for n in range(50, 70)))
    (tmp_path / "sample_submission.csv").write_text(table([("id", "breed"), ("00000032", "ant")]))
    raw, findings = read_all(tmp_path, image_size=8)
    assert labels_of(raw) == {
        f"train/{one}.jpg": label for one, label in zip(ids, LABELS, strict=True)
    }
    assert (raw.num_valid, raw.num_test) == (0, 0)
    reported = {warning.kind: warning.count for warning in findings.warnings}
    assert reported["unlabelled-files"] == 20
    assert reported["table-not-used"] == 1


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_hugging_face_imagefolder_with_metadata_in_each_split(tmp_path: Path, name: str) -> None:
    for split, first in (("train", 0), ("test", 100)):
        write(tmp_path, [f"{split}/{file}" for file in FILES], first=first)
        rows = [{"file_name": f, "label": c} for f, c in expected("").items()]
        if name.endswith(".csv"):
            text = table([("file_name", "label"), *(tuple(row.values()) for row in rows)])
        else:
            text = "\n".join(map(json.dumps, rows))
        (tmp_path / split / name).write_text(text)
    raw, _ = read_all(tmp_path)
    assert (raw.num_train, raw.num_valid, raw.num_test) == (10, 0, 10)
    assert labels_of(raw) == expected("train/") | expected("test/")


def test_hugging_face_metadata_next_to_the_splits(tmp_path: Path) -> None:
    write(tmp_path, [f"data/{'train' if n < 6 else 'validation'}/{f}" for n, f in enumerate(FILES)])
    rows = [
        {"file_name": f"{'train' if n < 6 else 'validation'}/{f}", "label": n % 2}
        for n, f in enumerate(FILES)
    ]
    (tmp_path / "data" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    raw, _ = read_all(tmp_path)
    assert (raw.classes, raw.num_train, raw.num_valid) == (("0", "1"), 6, 4)


def test_roboflow_with_one_column_a_class_in_each_split(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        write(tmp_path, [f"{split}/{file}" for file in FILES], first=100 * number)
        rows = [(f, int(c == "ant"), int(c == "bee")) for f, c in expected("").items()]
        text = table([("filename", " ant", " bee"), *rows])
        (tmp_path / split / "_classes.csv").write_text(text)
    (tmp_path / "README.roboflow.txt").write_text("exported")
    raw, _ = read_all(tmp_path)
    assert raw.classes == ("ant", "bee")
    assert (raw.num_train, raw.num_valid, raw.num_test) == (10, 10, 10)


def test_roboflow_with_folders(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        write(tmp_path / "export", names(split), first=100 * number)
    (tmp_path / "export" / "README.dataset.txt").write_text("exported")
    raw, _ = read_all(tmp_path)
    assert (raw.num_train, raw.num_valid, raw.num_test) == (10, 10, 10)


def test_a_table_for_each_split(tmp_path: Path) -> None:
    write(tmp_path, [f"images/{file}" for file in FILES])
    rows = list(expected("").items())
    for name, part in (("Train", rows[:6]), ("val", rows[6:8]), ("TEST", rows[8:])):
        (tmp_path / f"{name}.csv").write_text(table([("file", "label"), *part]))
    raw, _ = read_all(tmp_path)
    assert (raw.num_train, raw.num_valid, raw.num_test) == (6, 2, 2)


def test_a_table_that_agrees_with_the_folders_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a", names())
    write(tmp_path / "b", names())
    rows = [(name, name.partition("/")[0]) for name in names()]
    (tmp_path / "b" / "labels.csv").write_text(table([("file", "label"), *rows]))
    one, other = (
        prepare(DataConfig(source=f"imagefolder:{tmp_path / n}"), 0, tmp_path / f"out-{n}")
        for n in "ab"
    )
    assert one.data_sha256 == other.data_sha256


def test_a_table_that_contradicts_the_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path, names())
    rows = [(name, "ab"[number % 2]) for number, name in enumerate(names())]
    (tmp_path / "labels.csv").write_text(table([("file", "label"), *rows]))
    assert "labels.csv and the folders give different classes; set data.labels" in message(tmp_path)
    assert read_all(tmp_path, labels="labels.csv")[0].classes == ("a", "b")
    assert read_all(tmp_path, labels="folders")[0].classes == ("ant", "bee")


def test_a_table_of_something_else_is_reported_and_not_used(tmp_path: Path) -> None:
    write(tmp_path, names())
    (tmp_path / "sizes.csv").write_text(table([("file", "width"), *((n, 8) for n in names())]))
    (tmp_path / "prices.csv").write_text("item,price\nbread,2\n")
    raw, findings = read_all(tmp_path)
    assert raw.classes == ("ant", "bee")
    (reported,) = findings.warnings
    assert (reported.kind, reported.examples) == ("table-not-used", ("sizes.csv",))


def test_a_table_that_is_needed_and_cannot_be_used_is_what_is_wrong(images: Path) -> None:
    text = table([("file", "label"), *zip(FILES, ["käse", "brot"] * 5, strict=True)])
    (images / "labels.csv").write_bytes(text.encode("latin-1"))
    reported = problems(images)
    assert reported["table-not-used"].message.startswith("labels.csv is not UTF-8")
    rows = [("file", "size", "price"), *((file, n, n) for n, file in enumerate(FILES, 7))]
    (images / "labels.csv").write_text(table(rows))
    assert problems(images)["table-not-used"].message.startswith(
        "none of the columns of labels.csv is known as that of the labels; set data.label_column to"
    )


def test_several_tables(images: Path) -> None:
    text = table([("file", "label"), *zip(FILES, LABELS, strict=True)])
    for name in ("a.csv", "b.csv"):
        (images / name).write_text(text)
    assert "has several tables of labels: a.csv, b.csv; set data.labels" in message(images)


def test_a_table_elsewhere(images: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("other") / "labels.csv"
    path.write_text(table([("file", "label"), *zip(FILES, LABELS, strict=True)]))
    assert labels_of(read_all(images, labels=str(path))[0]) == expected()
    assert "there is no such table in the source or on this machine" in message(
        images, labels="none.csv"
    )


# --- wrong rows -------------------------------------------------------------------------------


def test_every_fault_of_the_rows_is_reported_with_examples(images: Path) -> None:
    rows: list[tuple[str, str]] = list(expected("").items())
    rows += [(f"gone{number}.png", "ant") for number in range(5)]
    rows += [("001.png", "ant"), ("001.png", "bee"), ("002.png", "ant")]
    rows[4] = ("004.png", "nan")
    rows[6] = ("006.png", "1.0")
    (images / "labels.csv").write_text(table([("file", "label"), *rows]))
    found = problems(images)
    assert found["missing-files"].message.startswith(
        "labels.csv names 5 files that are not there: gone0.png, gone1.png, gone2.png and 2 others"
    )
    assert found["duplicate-rows"].count == 2
    assert "images/001.png (3 rows), images/002.png (2 rows)" in found["duplicate-rows"].message
    assert (found["unlabelled-rows"].count, found["unlabelled-files"].count) == (1, 1)
    assert found["float-labels"].examples == ("006.png",)


def test_images_that_no_row_names(images: Path) -> None:
    (images / "labels.csv").write_text(
        table([("file", "label"), *list(zip(FILES, LABELS, strict=True))[:6]])
    )
    reported = problems(images)["unlabelled-files"]
    assert reported.message.startswith(
        "4 images have no label, since labels.csv does not name them: images/006.png"
    )
    assert len(read_all(images, allow_skipped=True)[0].labels) == 6


def test_files_of_a_table_that_cannot_be_read(images: Path) -> None:
    (images / "images" / "010.heic").write_bytes(b"x")
    rows = [*expected("").items(), ("010.heic", "ant")]
    (images / "labels.csv").write_text(table([("file", "label"), *rows]))
    found = problems(images)
    assert found["skipped-files"].examples == ("images/010.heic",)
    assert found["missing-files"].examples == ("010.heic",)


def test_a_name_that_several_files_have(tmp_path: Path) -> None:
    write(tmp_path, [f"{folder}/{file}" for folder in "xy" for file in FILES])
    rows = [(f"{'xy'[n % 2]}/{file}", "ab"[n % 2]) for n, file in enumerate(FILES)]
    rows[0] = (FILES[0], "a")
    (tmp_path / "labels.csv").write_text(table([("file", "label"), *rows]))
    reported = problems(tmp_path, labels="labels.csv")["ambiguous-files"]
    assert reported.examples == ("000.png",)
    assert "000.png (x/000.png, y/000.png)" in reported.message
    # A path of another folder is not the file of the same name.
    rows[0] = ("z/000.png", "a")
    (tmp_path / "labels.csv").write_text(table([("file", "label"), *rows]))
    assert problems(tmp_path, labels="labels.csv")["missing-files"].examples == ("z/000.png",)


def test_labels_that_look_alike(images: Path) -> None:
    labels = ["Ant", "ant", *LABELS[2:]]
    (images / "labels.csv").write_text(table([("file", "label"), *zip(FILES, labels, strict=True)]))
    assert problems(images)["class-names"].examples == ("'Ant' and 'ant'",)


# --- groups -----------------------------------------------------------------------------------


def _patients(root: Path, count: int = 60) -> Path:
    files = [f"{number:03}.png" for number in range(count)]
    write(root, [f"images/{file}" for file in files])
    rows = [(f, "ab"[(n // 3) % 2], f"patient {n // 3}") for n, f in enumerate(files)]
    (root / "labels.csv").write_text(table([("file", "label", "patient"), *rows]))
    return root


def test_splits_of_a_table_count_where_folders_tell_the_classes(tmp_path: Path) -> None:
    write(tmp_path, names())
    rows = [(n, n.partition("/")[0], "test" if "4" in n else "train") for n in names()]
    (tmp_path / "labels.csv").write_text(table([("file", "label", "split"), *rows]))
    raw, _ = read_all(tmp_path)
    assert (raw.classes, raw.num_train, raw.num_test) == (("ant", "bee"), 8, 2)


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_cross_a_split(tmp_path: Path, seed: int) -> None:
    import numpy as np

    config = DataConfig(source=f"imagefolder:{_patients(tmp_path / 'in')}", group="patient")
    info = prepare(config, seed, tmp_path / "out")
    with np.load(tmp_path / "out" / "splits.npz") as splits:
        parts = {name: set(splits[name].tolist()) for name in ("train", "valid", "test")}
    assert sum(map(len, parts.values())) == 60
    raw, _ = read_all(tmp_path / "in", group="patient")
    assert raw.image_groups is not None
    groups = {name: {int(raw.image_groups[p]) for p in part} for name, part in parts.items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["valid"]
    assert not groups["valid"] & groups["test"]
    assert info.class_counts["test"] == [6, 6], "stratified"
    assert prepare(config, seed, tmp_path / "again") == info


def test_groups_that_are_divided_or_too_few(tmp_path: Path) -> None:
    root = _patients(tmp_path / "in", count=12)
    text = (root / "labels.csv").read_text()
    text = text.replace("patient 2", "patient 0").replace("patient 3", "patient 1")
    (root / "labels.csv").write_text(text)
    config = DataConfig(source=f"imagefolder:{root}", group="patient")
    with pytest.raises(InputError, match=r"2 classes have .* fewer than 3 groups, .* a \(1\)"):
        prepare(config, 0, tmp_path / "out")
    lines = (root / "labels.csv").read_text().splitlines()
    text = "\n".join(
        f"{line},{'split' if not n else 'test' if n % 3 == 0 else 'train'}"
        for n, line in enumerate(lines)
    )
    (root / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=r"2 groups \(data.group\) stand in several splits"):
        prepare(config, 0, tmp_path / "out")


def test_a_group_needs_a_table_with_its_column(tmp_path: Path) -> None:
    write(tmp_path, names())
    assert "data.group = patient: needs a table" in message(tmp_path, group="patient")
    _patients(tmp_path / "x")
    assert "labels.csv has no such column; it has file, label, patient" in message(
        tmp_path / "x", group="person"
    )


def test_kaggle_with_training_and_test_images_in_one_folder(tmp_path: Path) -> None:
    ids = [f"{kind}_{n}" for kind in ("Train", "Test") for n in range(10)]
    write(tmp_path, [f"images/{one}.jpg" for one in ids])
    rows = [(one, int(n % 2), int(not n % 2)) for n, one in enumerate(ids[:10])]
    (tmp_path / "train.csv").write_text(table([("image_id", "healthy", "rust"), *rows]))
    (tmp_path / "test.csv").write_text("image_id\n" + "\n".join(ids[10:]))
    raw, findings = read_all(tmp_path, image_size=8)
    assert (raw.classes, len(raw.labels)) == (("healthy", "rust"), 10)
    assert {w.kind: w.count for w in findings.warnings}["unlabelled-files"] == 10


@pytest.mark.parametrize(
    "names_", [("train_labels", "test_labels"), ("labels_train", "labels_val")]
)
def test_tables_of_splits_by_other_names(tmp_path: Path, names_: tuple[str, str]) -> None:
    write(tmp_path, [f"images/{file}" for file in FILES])
    rows = list(expected("").items())
    for name, part in zip(names_, (rows[:6], rows[6:]), strict=True):
        (tmp_path / f"{name}.csv").write_text(table([("file", "label"), *part]))
    raw, _ = read_all(tmp_path)
    assert (raw.num_train, raw.num_valid + raw.num_test) == (6, 4)


def test_tables_that_nobody_would_read(tmp_path: Path) -> None:
    for settings, reported in (
        ({"source": "digits", "labels": "a.csv"}, "data.labels = a.csv: is for images in folders"),
        ({"source": "npz:a.npz", "group": "g"}, "data.group = g: is for images in folders"),
        (
            {"source": f"imagefolder:{tmp_path}", "split_by": "class", "labels": "a.csv"},
            "data.labels = a.csv: is for data that is split by images",
        ),
    ):
        with pytest.raises(InputError, match=reported):
            read(DataConfig(**settings))


# --- what would be taken wrongly --------------------------------------------------------------


def written(root: Path, labels: Sequence[str], *, head: str = "file,label") -> Path:
    """A table of images whose rows end with these cells."""
    write(root, [f"{number}.png" for number in range(len(labels))])
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    (root / "labels.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    return root


def kinds(root: Path, **settings: Any) -> dict[str, Finding]:
    with pytest.raises(InputError) as caught:
        read_all(root, **settings)
    return {one.kind: one for one in caught.value.problems if isinstance(one, Finding)}


@pytest.mark.parametrize(
    "labels",
    [
        ("ant", "bee", "ant|bee"),
        ("ant", "bee", '"ant, bee"'),
        ("ant;bee", "bee;cow", "ant;cow"),
        ("\"['ant', 'bee']\"", "ant", "bee"),
        ("\"{'categories': [0]}\"", "ant", "bee"),
    ],
)
def test_several_labels_in_one_cell(tmp_path: Path, labels: tuple[str, ...]) -> None:
    reported = kinds(written(tmp_path, labels * 4))["several-labels"]
    assert reported.count >= 4


@pytest.mark.parametrize("labels", [("Salmon, smoked", "Trout"), ("AC/DC", "a|b"), ("1;2", "3")])
def test_signs_within_a_name_are_no_several_labels(tmp_path: Path, labels: tuple[str, str]) -> None:
    root = written(tmp_path, [f'"{label}"' for label in labels] * 5)
    assert set(read_all(root)[0].classes) == set(labels)


def test_lists_in_json_lines(tmp_path: Path) -> None:
    write(tmp_path, [f"{number}.png" for number in range(12)])
    for several, classes in ((False, ("ant", "bee")), (True, None)):
        labels = [["ant"], ["bee"], ["ant", "bee"]][: 3 if several else 2]
        rows = [
            json.dumps({"file_name": f"{n}.png", "label": labels[n % len(labels)]})
            for n in range(12)
        ]
        (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
        if several:
            assert kinds(tmp_path)["several-labels"].count == 4
        else:
            assert read_all(tmp_path)[0].classes == classes


@pytest.mark.parametrize("name", ["tags", "caption", "objects", "bbox"])
def test_a_lone_column_that_is_no_class(tmp_path: Path, name: str) -> None:
    root = written(tmp_path, ["clear road", "haze", "clear"] * 4, head=f"image,{name}")
    reported = kinds(root)["table-not-used"].message
    assert f"set data.label_column to one of {name}" in reported
    assert read_all(root, label_column=name)[0].classes == ("clear", "clear road", "haze")


def test_numbers_with_a_decimal_comma(tmp_path: Path) -> None:
    write(tmp_path, [f"{number}.png" for number in range(12)])
    rows = [f"{number}.png;{number % 3},0" for number in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["file;label", *rows]))
    assert set(kinds(tmp_path)) == {"float-labels"}


def test_values_that_hardly_repeat_are_no_classes(tmp_path: Path) -> None:
    root = written(tmp_path, [str(number * 3) for number in range(20)], head="file,age")
    reported = kinds(root)["table"].message
    assert "column 'age' has 20 different values for 20 images" in reported
    assert "set data.label_column to another column" in reported


@pytest.mark.parametrize(
    ("values", "num_test"), [(("train", "test"), 6), (("train", "extra"), 0), (("train", ""), 0)]
)
def test_a_split_that_is_none(tmp_path: Path, values: tuple[str, str], num_test: int) -> None:
    labels = [f"{'ab'[n % 2]},{values[n >= 18]}" for n in range(24)]
    root = written(tmp_path, labels, head="file,label,split")
    if num_test:
        assert read_all(root)[0].num_test == num_test
    else:
        assert kinds(root)["unknown-split"].count == 6


@pytest.mark.parametrize(
    ("head", "split", "truths"),
    [
        ("is_valid", "num_valid", ("False", "True")),
        ("is_val", "num_valid", ("0", "1")),
        ("is_test", "num_test", ("no", "yes")),
    ],
)
def test_a_column_that_says_which_images_are_of_a_split(
    tmp_path: Path, head: str, split: str, truths: tuple[str, str]
) -> None:
    labels = [f"{'ab'[n % 2]},{truths[n >= 18]}" for n in range(24)]
    raw, findings = read_all(written(tmp_path, labels, head=f"fname,label,{head}"))
    assert getattr(raw, split) == 6
    assert f"splits from '{head}'" in findings.warnings[0].message


def test_columns_of_labels_that_do_not_agree(tmp_path: Path) -> None:
    labels = [f"{'ab'[n % 2]},{'xy'[n // 2 % 2]}" for n in range(12)]
    root = written(tmp_path, labels, head="file,category,class")
    assert "has several columns of labels, class, category" in kinds(root)["table-not-used"].message
    assert read_all(root, label_column="class")[0].classes == ("x", "y")
    labels = [f"{n % 2},{'xy'[n % 2]}" for n in range(12)]
    assert read_all(written(tmp_path, labels, head="file,label,class"))[0].classes == ("0", "1")


def test_accents_are_the_same_in_either_encoding(tmp_path: Path) -> None:
    """macOS writes file names with accents as letters of their own."""
    files = [f"ka\u0308fer{number}.png" for number in range(10)]
    write(tmp_path, files)
    rows = [f"k\u00e4fer{number}.png,{'ab'[number % 2]}" for number in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]), encoding="utf-8")
    assert labels_of(read_all(tmp_path)[0])[files[1]] == "b"


@pytest.mark.parametrize(
    "text",
    [
        "# made by hand, in May\nfile,label\n{rows}",
        "#file,label\n{rows}",
        "'file','label'\n{quoted}",
    ],
)
def test_comments_and_single_quotes(tmp_path: Path, text: str) -> None:
    write(tmp_path, [f"{number}.png" for number in range(10)])
    rows = [(f"{number}.png", "ab"[number % 2]) for number in range(10)]
    plain = "\n".join(",".join(row) for row in rows)
    quoted = "\n".join(",".join(f"'{cell}'" for cell in row) for row in rows)
    (tmp_path / "labels.csv").write_text(text.format(rows=plain, quoted=quoted))
    assert labels_of(read_all(tmp_path)[0])["3.png"] == "b"


def test_a_list_of_files_and_labels(tmp_path: Path) -> None:
    write(tmp_path, [f"images/{number}.png" for number in range(10)])
    rows = [f"images/{number}.png {number % 2}" for number in range(10)]
    (tmp_path / "list.txt").write_text("\n".join(rows))
    assert read_all(tmp_path, labels="list.txt")[0].classes == ("0", "1")


def test_a_table_whose_files_are_elsewhere_is_reported(tmp_path: Path) -> None:
    write(tmp_path, [f"{number}.png" for number in range(10)])
    rows = [f"old/{number + 50}.png,{'ab'[number % 2]}" for number in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    reported = kinds(tmp_path)
    assert "labels.csv names 10 files in its column 'file', such as 'old/50.png'" in (
        reported["table-not-used"].message
    )


@pytest.mark.parametrize("name", ["labels.json", "labels.xlsx"])
def test_tables_of_other_kinds(tmp_path: Path, name: str) -> None:
    write(tmp_path, ["0.png"])
    (tmp_path / name).write_text("{}")
    assert f"data.labels = {name}: is no table that can be read; write it as .csv" in message(
        tmp_path, labels=name
    )


def test_lists_of_splits_next_to_classes_are_reported(tmp_path: Path) -> None:
    write(tmp_path, [f"images/{c}/{n}.png" for c in ("ant", "bee") for n in range(5)])
    (tmp_path / "train_test_split.txt").write_text("1 0\n2 1\n")
    (tmp_path / "notes.txt").write_text("nothing")
    _, findings = read_all(tmp_path)
    (reported,) = findings.warnings
    assert (reported.kind, reported.examples) == ("table-not-used", ("train_test_split.txt",))


def test_kaggle_gtsrb(tmp_path: Path) -> None:
    """Tables of both splits with many columns, and pictograms next to them."""
    train = [f"Train/{c}/{c}_{n:05}.png" for c in range(2) for n in range(120)]
    test = [f"Test/{n:05}.png" for n in range(6)]
    write(tmp_path, [*train, *test, "Meta/0.png", "Meta/1.png"])
    head = "Width,Height,Roi.X1,ClassId,Path\n"
    for name, files in (("Train", train), ("Test", test)):
        rows = [f"8,8,1,{n % 2 if name == 'Test' else f[6]},{f}" for n, f in enumerate(files)]
        (tmp_path / f"{name}.csv").write_text(head + "\n".join(rows))
    (tmp_path / "Meta.csv").write_text("Path,ClassId,ShapeId\nMeta/0.png,0,1\nMeta/1.png,1,1\n")
    raw, findings = read_all(tmp_path)
    assert (raw.classes, raw.num_train, raw.num_test) == (("0", "1"), 240, 6)
    assert {w.kind: w.count for w in findings.warnings}["unlabelled-files"] == 2


def test_labels_that_python_wrote_as_bytes(tmp_path: Path) -> None:
    root = written(tmp_path, ["b'ant'", "b'bee'"] * 6)
    assert read_all(root)[0].classes == ("ant", "bee")


def test_blanks_behind_the_last_column(tmp_path: Path) -> None:
    root = written(tmp_path, ["ant,,", "bee,,"] * 6)
    assert read_all(root)[0].classes == ("ant", "bee")


@pytest.mark.parametrize("name", ["patient_id", "Video", "subject", "scene_nr"])
def test_a_column_that_may_be_of_groups_is_reported(tmp_path: Path, name: str) -> None:
    labels = [f"{'ab'[n % 2]},p{n // 4}" for n in range(24)]
    root = written(tmp_path, labels, head=f"file,label,{name}")
    reported = {one.kind: one for one in read_all(root)[1].warnings}["group-not-used"]
    assert reported.examples == (name,)
    assert "set data.group to it" in reported.message
    assert "group-not-used" not in {one.kind for one in read_all(root, group=name)[1].warnings}
    alone = [f"{'ab'[n % 2]},p{n}" for n in range(24)]
    root = written(tmp_path, alone, head=f"file,label,{name}")
    assert "group-not-used" not in {one.kind for one in read_all(root)[1].warnings}


def test_names_of_several_files_each(tmp_path: Path) -> None:
    write(tmp_path, [f"{n}.{kind}" for n in range(10) for kind in ("png", "bmp")])
    rows = [f"{n},{'ab'[n % 2]}" for n in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *rows]))
    assert "that are those of several files, such as '0'; write their paths and endings" in (
        kinds(tmp_path)["table-not-used"].message
    )


def test_a_setting_that_is_wrong_is_named_among_the_findings() -> None:
    problem = InputError.of("data.group", "Patient", "there is no such column").problems[0]
    assert merged([problem])[0].message == "data.group = Patient: there is no such column"


@pytest.mark.parametrize("table_of", ["train", "column"])
def test_kaggle_with_the_same_names_in_both_splits(tmp_path: Path, table_of: str) -> None:
    """The ids of either split count from 0, and only those of train have labels."""
    write(tmp_path, [f"train/{n}.jpg" for n in range(12)])
    write(tmp_path, [f"test/{n}.jpg" for n in range(12)], first=50)
    rows = [f"{n}.jpg,{'ab'[n % 2]},train" for n in range(12)]
    if table_of == "column":
        rows += [f"{n}.jpg,{'ab'[n % 2]},test" for n in range(12)]
        (tmp_path / "labels.csv").write_text("\n".join(["id,label,split", *rows]))
    else:
        cells = [row.removesuffix(",train") for row in rows]
        (tmp_path / "train.csv").write_text("\n".join(["id,label", *cells]))
    settings = {"labels": "labels.csv"} if table_of == "column" else {}
    raw, _ = read_all(tmp_path, image_size=8, **settings)
    assert labels_of(raw)["train/3.jpg"] == "b"
    assert (raw.num_train, raw.num_test) == (12, 12 if table_of == "column" else 0)


def test_a_column_of_splits_is_never_one_of_labels(tmp_path: Path) -> None:
    root = written(tmp_path, ["0", "1", "2"] * 6, head="image_id,partition")
    assert "set data.label_column to one of partition" in kinds(root)["table-not-used"].message


@pytest.mark.parametrize("name", ["split", "partition", "fold"])
def test_a_column_of_splits_by_number_is_reported(tmp_path: Path, name: str) -> None:
    root = written(tmp_path, [f"{'ab'[n % 2]},{n // 2 % 3}" for n in range(18)])
    text = (root / "labels.csv").read_text().replace("file,label", f"file,label,{name}")
    (root / "labels.csv").write_text(text)
    reported = {one.kind: one for one in read_all(root)[1].warnings}["split-not-used"]
    assert reported.examples == (name,)


def test_a_column_of_nothing_but_splits_is_one_of_splits(tmp_path: Path) -> None:
    labels = [f"{'ab'[n % 2]},{('TRAIN', 'Val ', 'Test')[n // 2 % 3]}" for n in range(24)]
    raw, _ = read_all(written(tmp_path, labels, head="file,label,data set"))
    assert (raw.num_train, raw.num_valid, raw.num_test) == (8, 8, 8)


def test_a_column_of_a_class_without_images_is_reported(tmp_path: Path) -> None:
    labels = [f"{n % 2},{1 - n % 2},0" for n in range(12)]
    raw, findings = read_all(written(tmp_path, labels, head="image,MEL,NV,BCC"))
    assert raw.classes == ("MEL", "NV")
    assert {one.kind: one.examples for one in findings.warnings}["missing-class"] == ("BCC",)
