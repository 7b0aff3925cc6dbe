"""What is around the work of every step, with a folder as its only surroundings."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.config import Config, dumps
from components.settings import TrackingConfig
from components.steps import prepare_data
from components.steps.running import Step, execute, run_name, write_json
from nascore.config import DataConfig
from nascore.errors import InputError

CONFIG = Config(tracking=TrackingConfig(uri="sqlite:////nowhere/mlflow.db"))


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody follows the spool: its events are what is tested."""
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NAS_PROGRESS_FILE", str(tmp_path / "progress.jsonl"))
    monkeypatch.setenv("NAS_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back what a step sets


def run_step(
    folder: Path, work: Callable[[Step], dict[str, float]], *, config: Config = CONFIG
) -> dict[str, float]:
    """A step that reads `input.json` and writes `output`, in `folder`."""
    if not (folder / "input.json").exists():
        write_json(folder / "input.json", {"value": 1})
    return execute(
        "search",
        work,
        run_key="key",
        config=config,
        inputs={"input": folder / "input.json"},
        outputs={"output": folder / "output"},
    )


def writing(folder: Path, text: str) -> Callable[[Step], dict[str, float]]:
    def work(step: Step) -> dict[str, float]:
        (folder / "output").write_text(text)
        return {"length": float(len(text))}

    return work


def never(step: Step) -> dict[str, float]:
    raise AssertionError("done work was done again")


def progress(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def events(folder: Path, op: str) -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for file in sorted((folder / "spool" / "events").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return [line for line in lines if line["op"] == op]


def test_done_work_is_handed_back_and_not_done_again(tmp_path: Path) -> None:
    first = run_step(tmp_path, writing(tmp_path, "four"))
    (tmp_path / "output").unlink()
    assert run_step(tmp_path, never) == first == {"length": 4.0}
    assert (tmp_path / "output").read_text() == "four"
    assert [(e["event"], e.get("restored")) for e in progress(tmp_path)] == [
        ("started", None),
        ("finished", None),
        ("started", None),
        ("finished", True),
    ]


def test_other_input_or_other_settings_are_other_work(tmp_path: Path) -> None:
    run_step(tmp_path, writing(tmp_path, "a"))
    write_json(tmp_path / "input.json", {"value": 2})
    assert run_step(tmp_path, writing(tmp_path, "bb")) == {"length": 2.0}
    other = CONFIG.model_copy(update={"seed": 1})
    assert run_step(tmp_path, writing(tmp_path, "ccc"), config=other) == {"length": 3.0}


def test_folders_are_handed_back_whole(tmp_path: Path) -> None:
    def work(step: Step) -> dict[str, float]:
        (tmp_path / "output" / "below").mkdir(parents=True)
        (tmp_path / "output" / "below" / "file").write_text("text")
        return {}

    run_step(tmp_path, work)
    (tmp_path / "output" / "below" / "file").unlink()
    (tmp_path / "output" / "litter").write_text("of a later process")
    run_step(tmp_path, never)
    files = [path for path in (tmp_path / "output").rglob("*") if path.is_file()]
    assert [path.read_text() for path in files] == ["text"]


def test_a_failure_leaves_no_output_and_says_what_it_was(tmp_path: Path) -> None:
    def work(step: Step) -> dict[str, float]:
        (tmp_path / "output").write_text("half")
        raise RuntimeError("of sqlite at http://me:secret@host")

    with pytest.raises(RuntimeError):
        run_step(tmp_path, work)
    assert not (tmp_path / "output").exists()
    last = progress(tmp_path)[-1]
    assert (last["event"], last["step"]) == ("failed", "search")
    assert last["error"].startswith("RuntimeError: of sqlite")
    assert {e["run"]: e["status"] for e in events(tmp_path, "end")} == {
        "key.search": "FAILED",
        "key": "FAILED",
    }
    (tagged,) = (e["values"] for e in events(tmp_path, "tags"))
    assert tagged == {"nas.error": "of sqlite at http://me:***@host"}
    assert run_step(tmp_path, writing(tmp_path, "a")) == {"length": 1.0}  # it is tried again


def test_wrong_input_is_told_as_such(tmp_path: Path) -> None:
    def work(step: Step) -> dict[str, float]:
        raise InputError.of("data.source", "x", "is wrong")

    with pytest.raises(InputError):
        run_step(tmp_path, work)
    told = [event for event in progress(tmp_path) if event["event"] != "started"]
    assert [(event["event"], event["problems"]) for event in told] == [
        ("input_error", [{"key": "data.source", "value": "x", "message": "is wrong"}])
    ]


def test_work_that_was_asked_to_stop_hands_on_its_best_and_is_not_done(tmp_path: Path) -> None:
    def work(step: Step) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        assert step.should_stop()
        return writing(tmp_path, "best so far")(step)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run_step(tmp_path, work)
    assert ended.value.code == 128 + signal.SIGTERM, "Kubeflow tries such a task again"
    assert (tmp_path / "output").read_text() == "best so far"
    assert progress(tmp_path)[-1]["event"] == "finished"
    assert signal.getsignal(signal.SIGTERM) is before
    assert run_step(tmp_path, writing(tmp_path, "all")) == {"length": 3.0}


def test_seconds_are_told_by_what_they_were_spent_on(tmp_path: Path) -> None:
    def work(step: Step) -> dict[str, float]:
        for kind in ("data", "training", "training"):
            with step.busy(kind):
                pass
        return writing(tmp_path, "")(step)

    run_step(tmp_path, work)
    finished = progress(tmp_path)[-1]
    assert finished["busy"].keys() == {"data", "training"}
    assert finished["seconds"] >= sum(finished["busy"].values())


def test_a_run_is_declared_below_the_run_of_the_pipeline(tmp_path: Path) -> None:
    run_step(tmp_path, writing(tmp_path, "x"))
    declared = [(e["run"], e["name"], e["parent"]) for e in events(tmp_path, "run")]
    assert declared == [("key", "nases on digits", None), ("key.search", "search", "key")]
    logged = [event["values"] for event in events(tmp_path, "metrics")]
    assert logged[0].keys() == {"length", "seconds"}


@pytest.mark.parametrize(
    ("source", "name"),
    [("digits", "nases on digits"), ("npz:/data/birds.npz", "nases on birds")],
)
def test_the_name_of_a_run_says_method_and_data(source: str, name: str) -> None:
    assert run_name(Config(data=DataConfig(source=source))) == name


# --- prepare_data ---------------------------------------------------------------------------


def prepare(folder: Path, config: str, overrides: str = "") -> prepare_data.PreparedData:
    return prepare_data.run(
        config=config,
        overrides=overrides,
        job_name="job",
        resolved_config=folder / "config.json",
        dataset=folder / "dataset",
    )


@pytest.mark.parametrize("config", ["{", "[1]", "3", "search: 3", "sede: 1", "method: [x]"])
def test_settings_that_kubeflow_brings_are_checked_like_all_others(
    tmp_path: Path, config: str
) -> None:
    with pytest.raises(InputError):
        prepare(tmp_path, config)
    assert progress(tmp_path)[-1]["event"] == "input_error"
    assert not (tmp_path / "dataset").exists()


def test_overrides_win_and_the_password_of_the_store_stays_out_of_the_tracked_settings(
    tmp_path: Path,
) -> None:
    config = Config(tracking=TrackingConfig(uri="http://me:hunter2@host"))
    prepared = prepare(tmp_path, dumps(config), "seed=7 data.max_train=300")
    assert prepared.metrics == {"num_images": 1797.0, "num_classes": 10.0}
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["seed"], written["data"]["max_train"]) == (7, 300)
    assert written["tracking"]["uri"] == "http://me:hunter2@host"  # the steps need it

    assert prepare(tmp_path, dumps(config), "seed=7 data.max_train=300") == prepared  # tried again

    kept = [p for p in (tmp_path / "spool").rglob("*") if p.is_file() and p.name != "target.json"]
    assert kept
    assert [path for path in kept if "hunter2" in path.read_text()] == []


def test_a_step_in_a_process_of_its_own_shows_no_traceback_for_wrong_input(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from components.steps import prepare_data\n"
        "out = Path('out')\n"
        "prepare_data.run(config='{data: {source: nothing}}', overrides='', job_name='',\n"
        "                 resolved_config=out / 'config.json', dataset=out / 'data')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "data.source = nothing: unknown source" in ended.stderr
