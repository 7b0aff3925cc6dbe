"""What is around the work of every step, with a folder as its only surroundings."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.config.schema import Config, dumps, parse
from components.config.settings import TrackingConfig
from components.steps import prepare_data, search_worker
from components.steps.compiled import Compiled, write_run
from components.steps.refusals import forget_refusals
from components.steps.runtime import Step, execute, run_name
from components.steps.state import write_json
from nascore.config import DataConfig
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError, ResourceUnavailable
from nascore.methods.registry import METHODS
from nascore.search.study import Study
from nascore.search.study_identity import identity
from nascore.search.study_storage import Storage
from nascore.spaces.base import make_space

CONFIG = Config(tracking=TrackingConfig(uri="sqlite:////nowhere/mlflow.db"))


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process follows the spool: its events are what is tested."""
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
    found = {e["run"]: e["values"] for e in events(tmp_path, "tags")}
    reason = {
        "nas.end_reason": "RuntimeError: of sqlite at http://me:***@host",
        "nas.end_kind": "crash",
    }
    assert found == {"key": reason, "key.search": reason}
    assert run_step(tmp_path, writing(tmp_path, "a")) == {"length": 1.0}  # it is tried again


def test_wrong_input_is_reported_as_such(tmp_path: Path) -> None:
    def work(step: Step) -> dict[str, float]:
        raise InputError.of("data.source", "x", "is wrong")

    with pytest.raises(InputError):
        run_step(tmp_path, work)
    found = [event for event in progress(tmp_path) if event["event"] != "started"]
    assert [(event["event"], event["problems"]) for event in found] == [
        ("input_error", [{"key": "data.source", "value": "x", "message": "is wrong"}])
    ]


def refusing(error: type[InputError]) -> Callable[[Step], dict[str, float]]:
    def work(step: Step) -> dict[str, float]:
        raise error.of("search.study", "x", "is of another search")

    return work


def refusals(folder: Path) -> list[Path]:
    return list((folder / "state").glob("*/refused.json"))


def test_wrong_input_is_refused_at_once_when_the_step_is_tried_again(tmp_path: Path) -> None:
    """Kubeflow tries a step again whatever its end was."""
    for work in (refusing(InputError), never, never):
        with pytest.raises(InputError, match=r"search.study = x: is of another search"):
            run_step(tmp_path, work)
    found = [event for event in progress(tmp_path) if event["event"] == "input_error"]
    assert len(found) == 3
    assert len(refusals(tmp_path)) == 1


def test_other_input_is_not_refused_for_what_was_wrong_before(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run_step(tmp_path, refusing(InputError))
    write_json(tmp_path / "input.json", {"value": 2})
    assert run_step(tmp_path, writing(tmp_path, "a")) == {"length": 1.0}


@pytest.mark.parametrize("error", [ResourceUnavailable, RuntimeError])
def test_what_may_do_later_is_tried_again(tmp_path: Path, error: type[Exception]) -> None:
    def work(step: Step) -> dict[str, float]:
        if error is RuntimeError:
            raise RuntimeError
        return refusing(ResourceUnavailable)(step)

    with pytest.raises(error):
        run_step(tmp_path, work)
    assert refusals(tmp_path) == []
    assert run_step(tmp_path, writing(tmp_path, "a")) == {"length": 1.0}


def test_without_a_folder_that_outlives_it_nothing_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NAS_STATE_DIR")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with pytest.raises(InputError):
        run_step(tmp_path, refusing(InputError))
    assert list(tmp_path.glob("**/refused.json")) == []
    assert run_step(tmp_path, writing(tmp_path, "a")) == {"length": 1.0}


def test_a_local_run_that_is_resumed_does_not_repeat_an_earlier_refusal(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run_step(tmp_path, refusing(InputError))
    forget_refusals(tmp_path / "state")
    assert run_step(tmp_path, writing(tmp_path, "a")) == {"length": 1.0}


def test_a_worker_is_refused_at_once_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def work(*args: object, **kwargs: object) -> None:
        calls.append(kwargs)
        raise InputError.of("search.study", "x", "is of another search")

    monkeypatch.setattr(search_worker, "work", work)
    for name in ("dataset", "controller"):
        write_json(tmp_path / name / f"{name}.json", {})
    (tmp_path / "dataset" / "config.json").write_text(dumps(CONFIG))
    write_run(tmp_path / "dataset", run_key="key", division=(1, 1))
    for _ in range(2):
        with pytest.raises(InputError, match="another search"):
            search_worker.run(
                run_key="key",
                dataset=tmp_path / "dataset",
                controller=tmp_path / "controller",
                place=1,
            )
    assert len(calls) == 1


def test_work_that_was_asked_to_stop_writes_its_best_and_is_not_done(tmp_path: Path) -> None:
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


def test_seconds_are_reported_by_what_they_were_spent_on(tmp_path: Path) -> None:
    def work(step: Step) -> dict[str, float]:
        for kind in ("data", "training", "training"):
            with step.busy(kind):
                pass
        return writing(tmp_path, "")(step)

    run_step(tmp_path, work)
    finished = progress(tmp_path)[-1]
    assert finished["busy"].keys() == {"data", "training"}
    assert finished["seconds"] >= sum(finished["busy"].values())


def test_a_block_within_another_is_counted_once(tmp_path: Path) -> None:
    def work(step: Step) -> dict[str, float]:
        with step.busy("profiling"), step.busy("data"):
            time.sleep(0.2)
        return writing(tmp_path, "")(step)

    run_step(tmp_path, work)
    busy = progress(tmp_path)[-1]["busy"]
    assert busy["data"] >= 0.2 > 0.1 > busy["profiling"]


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


def prepare(
    folder: Path, config: str, settings: str = "", *, searches: bool = True, **more: str
) -> dict[str, float]:
    return prepare_data.run(
        config=config,
        compiled=Compiled(searches=searches),
        parameters={"settings": settings, **more},
        job_name="job",
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


def test_settings_of_a_run_win_and_the_password_of_the_store_stays_out_of_the_tracked_settings(
    tmp_path: Path,
) -> None:
    config = Config(tracking=TrackingConfig(uri="http://me:hunter2@host"))
    prepared = prepare(tmp_path, dumps(config), "seed=7 data.max_train=300")
    assert prepared == {"num_images": 1797.0, "num_classes": 10.0}
    written = json.loads((tmp_path / "dataset" / "config.json").read_text())
    assert (written["seed"], written["data"]["max_train"]) == (7, 300)
    assert written["tracking"]["uri"] == "http://me:hunter2@host"  # the steps need it

    assert prepare(tmp_path, dumps(config), "seed=7 data.max_train=300") == prepared  # tried again

    kept = [p for p in (tmp_path / "spool").rglob("*") if p.is_file() and p.name != "target.json"]
    assert kept
    assert [path for path in kept if "hunter2" in path.read_text()] == []


def test_images_that_augmentation_would_leave_nothing_of_are_refused(tmp_path: Path) -> None:
    """Their size shows only when they are read."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 20)
    images = rng.integers(0, 256, (40, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", x_train=images, y_train=labels)
    source = f"data.source=npz:{tmp_path / 'small.npz'}"
    with pytest.raises(InputError) as refused:
        prepare(
            tmp_path,
            '{"method": "random-ws", "search": {"budget": {"steps": 10}, '
            '"space": {"name": "nasbench201"}}}',
            f"{source} training.cutout=6 training.crop_padding=7",
        )
    keys = [problem.key for problem in refused.value.problems]
    assert keys == ["training.crop_padding", "training.cutout"]
    assert "6 pixels a side" in str(refused.value)
    assert not (tmp_path / "dataset").exists()
    assert prepare(tmp_path, "{}", f"{source} training.cutout=5")["num_images"] == 40


def test_a_place_for_results_that_will_not_do_is_found_before_the_data_is_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as refused:
        prepare(tmp_path, "{}", f"promote.export_to={tmp_path / 'file' / 'below'}")
    assert [problem.key for problem in refused.value.problems] == ["promote.export_to"]
    assert not (tmp_path / "dataset").exists()


def named_study(folder: Path) -> str:
    return f"search.storage=sqlite:///{folder / 'study.db'} search.study=shared"


def begin_study(folder: Path, *, seed: int) -> None:
    """What a first search leaves in the database, on the data of `prepare`."""
    settings = Config(seed=seed)
    data = DatasetInfo.load(folder / "dataset").data_sha256
    space = make_space(settings.search.space).identifier
    storage = Storage(f"sqlite:///{folder / 'study.db'}")
    for arm, method, options in (
        ("method", "nases", parse({"method": "nases"}).search.options),
        ("control", "random", None),
    ):
        wanted = identity(
            method,
            options=options and METHODS[method].options.model_validate(options),
            evaluation={},
            space=space,
            seed=seed,
            data_sha256=data,
            search=settings.search,
        )
        Study(storage, f"shared/{arm}", wanted)
    storage.close()


def test_a_study_of_another_search_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    prepare(tmp_path, "{}", named_study(tmp_path))  # there is none yet, and none is made
    begin_study(tmp_path, seed=0)
    assert prepare(tmp_path, "{}", f"{named_study(tmp_path)} train.epochs=3")
    with pytest.raises(InputError) as refused:
        prepare(tmp_path, "{}", f"{named_study(tmp_path)} seed=1")
    assert [problem.value for problem in refused.value.problems] == [
        "shared/method (in pipeline parameter settings)",
        "shared/control (in pipeline parameter settings)",
    ]
    assert "seed was 0" in str(refused.value)
    forget_refusals(tmp_path / "state")
    # A retraining may do without a search.
    assert prepare(tmp_path, "{}", f"{named_study(tmp_path)} seed=1", searches=False)


def test_looking_at_a_study_makes_none(tmp_path: Path) -> None:
    prepare(tmp_path, "{}", named_study(tmp_path))
    storage = Storage(f"sqlite:///{tmp_path / 'study.db'}")
    assert storage.optuna.get_all_studies() == []
    storage.close()


def test_a_step_in_a_process_of_its_own_shows_no_traceback_for_wrong_input(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from components.steps import prepare_data\n"
        "out = Path('out')\n"
        "from components.steps.compiled import Compiled\n"
        "prepare_data.run(config='{}', parameters={'data': 'nothing'}, job_name='',\n"
        "                 compiled=Compiled(), dataset=out / 'data')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "data = nothing (pipeline parameter): unknown source" in ended.stderr
