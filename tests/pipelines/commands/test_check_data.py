"""`nas check-data`: its exit status, its JSON, its table and its page."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from image_trees import names, write

from pipelines.cli import main


def check(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check-data", *map(str, arguments)])


def report(*arguments: object, status: int) -> dict[str, Any]:
    result = check(*arguments, "--json")
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = write(tmp_path / "in", names("train", count=20))
    return write(root, names("test", count=4), first=100)


def test_a_sound_data_set(tree: Path) -> None:
    before = sorted(tree.parent.rglob("*"))
    assert report(f"imagefolder:{tree}", status=0) == {
        "ok": True,
        "classes": ["ant", "bee"],
        "splits": {"train": 34, "valid": 6, "test": 8},
        "num_images": 48,
        "input": [3, 8, 8],
        "problems": [],
        "warnings": [],
    }
    assert sorted(tree.parent.rglob("*")) == before, "nothing is written"


def test_what_is_wrong_has_kind_message_number_and_examples(tree: Path) -> None:
    shutil.copy(tree / "train/ant/0.png", tree / "test/ant/copy.png")
    (tree / ".DS_Store").write_bytes(b"x")
    found = report(tree, status=1)
    assert not found["ok"]
    assert found["num_images"] == 49
    assert found["problems"] == [
        {
            "kind": "duplicate-across-splits",
            "message": "1 pictures stand in more than one split, so that results are too good: "
            "train/ant/0.png (train) and test/ant/copy.png (test); remove the copies",
            "count": 1,
            "examples": ["train/ant/0.png (train) and test/ant/copy.png (test)"],
        }
    ]
    assert [warning["kind"] for warning in found["warnings"]] == ["skipped-files"]


def test_a_layout_that_is_not_understood(tmp_path: Path) -> None:
    write(tmp_path, [f"{part}/{n}.png" for part in ("Training", "Testing") for n in range(5)])
    found = report(tmp_path, status=1)
    assert (found["classes"], found["splits"], found["num_images"]) == ([], {}, 0)
    (problem,) = found["problems"]
    assert problem["kind"] == "layout"
    assert len(problem["examples"]) == 3


def test_labels_settings_and_sources_by_their_path(tmp_path: Path) -> None:
    write(tmp_path / "images", [f"{number}.png" for number in range(20)])
    rows = "".join(f"{number}.png;{'ab'[number % 2]}\n" for number in range(20))
    (tmp_path / "labels.csv").write_text(f"\ufefffile;label\n{rows}", encoding="utf-8")
    found = report(
        tmp_path / "images",
        f"--labels={tmp_path / 'labels.csv'}",
        "--set=data.test_fraction=0.5",
        status=0,
    )
    assert found["classes"] == ["a", "b"]
    assert found["splits"]["test"] == 10
    x = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(20) % 2)
    assert report(tmp_path / "a.npz", status=0)["input"] == [1, 8, 8]
    archive = shutil.make_archive(str(tmp_path / "b"), "zip", write(tmp_path / "c", names()))
    assert report(archive, status=0)["num_images"] == 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere",), "SOURCE = nowhere: there is no such folder or file"),
        (("imagefolder:nowhere",), "SOURCE = imagefolder:nowhere: there is no nowhere"),
        (("digits", "--set=data.image_sise=8"), "data.image_sise = 8: unknown key"),
        ((), "SOURCE: is missing; write"),
        (("",), "SOURCE: is empty"),
        (("imagefolder:/etc/hostname",), "is a file; name a folder"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], told: str) -> None:
    result = check(*arguments, "--json")
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output


def test_a_table_of_labels_that_is_not_there(tree: Path) -> None:
    result = check(tree, "--labels=none.csv")
    assert result.exit_code == 2
    assert "--labels = none.csv: there is no such file" in result.output


def test_the_table_and_the_page(tree: Path, tmp_path: Path) -> None:
    (tree / "train" / "ant" / "<b>.png").write_bytes(b"text")
    page = tmp_path / "page.html"
    result = check(tree, f"--page={page}")
    assert result.exit_code == 1
    assert "49 images of 2 classes, 3 x 8 x 8" in result.output
    assert "class                        train     valid      test\n" in result.output
    assert "problem  unreadable                cannot read train/ant/<b>.png" in result.output
    text = page.read_text()
    assert text.count("<img ") == 15  # eight of each class, but for the damaged one
    assert "&lt;b&gt;.png" in text
    assert "<b>" not in text
    assert "http" not in text


def test_it_starts_fast_and_writes_its_page_where_it_is_called(tree: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pipelines.cli import main\n"
        "try: main(['check-data', sys.argv[1]])\n"
        "finally: assert not {'torch', 'mlflow', 'kfp'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tree)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "No problems found.\nSample images of each class: check-data.html" in done.stdout
    assert (tmp_path / "check-data.html").exists()


def test_the_first_step_reports_the_same(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.config.schema import dumps, parse
    from components.steps import prepare_data
    from components.steps.compiled import Compiled

    shutil.copy(tree / "train/ant/0.png", tree / "test/ant/copy.png")
    (tree / ".DS_Store").write_bytes(b"x")
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NAS_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("NAS_PROGRESS_FILE", str(tmp_path / "progress.jsonl"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    settings = {
        "data": {"source": f"imagefolder:{tree}"},
        "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db"},
        "train": {"epochs": 1},
        "training": {"crop_padding": 0},
    }
    prepare_data.run(
        config=dumps(parse(settings)),
        compiled=Compiled(searches=True),
        parameters={},
        job_name="",
        dataset=tmp_path / "dataset",
    )
    warnings = json.loads((tmp_path / "dataset" / "dataset.json").read_text())["warnings"]
    assert [one["kind"] for one in warnings] == ["skipped-files", "duplicate-across-splits"]
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    notes = [line["text"] for line in lines if line["event"] == "note"]
    assert notes == [f"data: {one['message']}" for one in warnings]
