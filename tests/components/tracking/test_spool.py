import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.tracking import Tracker, wait_for_run
from components.tracking.reading import State, num_unsent, unsent_lines
from nascore.errors import InputError

URI = "sqlite:////nowhere/mlflow.db"


def open_spool(folder: Path) -> Tracker:
    return Tracker.open(folder, uri=URI, experiment="nas")


def events(folder: Path) -> list[dict]:
    return [line.event for line in unsent_lines(folder, State.load(folder))]


def test_writing_imports_neither_torch_nor_mlflow_and_is_quick():
    code = (
        "import sys, time; start = time.process_time(); import components.tracking;"
        "took = time.process_time() - start;"
        "assert not {'torch', 'mlflow', 'numpy'} & set(sys.modules), 'heavy import';"
        "print(took)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    # 30 ms of the processor were measured.
    assert min(times) < 0.2


def test_an_append_costs_microseconds(tmp_path):
    run = open_spool(tmp_path).run("a", name="a")
    start = time.process_time()
    for step in range(2000):
        run.metrics({"loss": 1.0, "accuracy": 0.5}, step)
    assert (time.process_time() - start) / 2000 < 1e-3
    assert num_unsent(tmp_path) == 2001


def test_events_are_on_disk_before_the_tracker_is_closed(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; from components.tracking import Tracker;"
        f"run = Tracker.open(Path({str(tmp_path)!r}), uri={URI!r}, experiment='nas')"
        ".run('a', name='a'); run.metrics({'loss': 1.0}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert [event["op"] for event in events(tmp_path)] == ["run", "metrics"]


def test_params_are_flattened_and_become_text(tmp_path):
    run = open_spool(tmp_path).run("a", name="a")
    run.params({"search": {"budget": {"children": 16}, "control": True}, "method": "nases"})
    assert events(tmp_path)[-1]["values"] == {
        "search.budget.children": "16",
        "search.control": "true",
        "method": "nases",
    }


def test_infinite_metrics_are_left_out_and_noted_and_nan_is_kept(tmp_path):
    run = open_spool(tmp_path).run("a", name="a")
    run.metrics({"loss": float("inf"), "gap": float("nan"), "accuracy": 0.5}, step=3)
    metrics, tags = events(tmp_path)[1:]
    assert set(metrics["values"]) == {"gap", "accuracy"}
    assert metrics["values"]["gap"] != metrics["values"]["gap"]
    assert tags["values"] == {"nas.infinite.loss": "inf at step 3"}


def test_an_artifact_is_kept_as_it_was(tmp_path):
    spool, source = tmp_path / "spool", tmp_path / "result.json"
    source.write_text("before")
    open_spool(spool).run("a", name="a").artifact(source)
    source.write_text("after")
    assert (spool / events(spool)[-1]["path"]).read_text() == "before"


def test_a_table_has_every_column_and_no_nan(tmp_path):
    run = open_spool(tmp_path).run("a", name="a")
    run.table([{"number": 0, "accuracy": float("nan")}, {"number": 1, "failure": "loss"}], "t.json")
    table = json.loads((tmp_path / events(tmp_path)[-1]["path"]).read_text())
    assert table == {
        "columns": ["number", "accuracy", "failure"],
        "data": [[0, None, None], [1, None, "loss"]],
    }


def test_a_spool_is_for_one_store(tmp_path):
    open_spool(tmp_path)
    open_spool(tmp_path)
    with pytest.raises(InputError) as error:
        Tracker.open(tmp_path, uri="http://me:secret@host:5000", experiment="nas")
    assert "secret" not in str(error.value)
    assert "another output folder" in str(error.value)


def test_only_the_owner_can_read_the_address_of_the_store(tmp_path):
    open_spool(tmp_path)
    assert stat.S_IMODE(os.stat(tmp_path / "target.json").st_mode) == 0o600


def test_a_key_that_a_search_of_runs_could_not_quote_is_refused(tmp_path):
    with pytest.raises(ValueError, match="run key"):
        open_spool(tmp_path).run("it's", name="a")


def test_writers_are_merged_by_time_and_each_keeps_its_order(tmp_path):
    first, second = open_spool(tmp_path), open_spool(tmp_path)
    for number in range(6):
        writer = (second, first)[number % 2]
        writer.run(f"run-{number}", name="a")
        time.sleep(0.002)  # the time of an event has milliseconds
    assert [event["run"] for event in events(tmp_path)] == [f"run-{n}" for n in range(6)]


def test_a_line_without_its_end_waits_and_a_broken_one_is_no_event(tmp_path):
    open_spool(tmp_path).run("a", name="a")
    (path,) = (tmp_path / "events").glob("*.jsonl")
    with open(path, "ab") as file:
        file.write(b'{"run": "a", "op": "met\n')
        file.write(b'{"run": "a", "op": "end"')
    whole, broken = unsent_lines(tmp_path, State.load(tmp_path))
    assert whole.event["op"] == "run"
    assert broken.event is None
    assert broken.end < path.stat().st_size


def test_waiting_for_a_run_that_nobody_sends_ends(tmp_path):
    open_spool(tmp_path).run("a", name="a")
    with pytest.raises(TimeoutError, match="run a"):
        wait_for_run(tmp_path, "a", timeout_s=0.2)


def test_parameters_and_tags_are_written_without_secrets(tmp_path: Path):
    tracker = Tracker.open(tmp_path, uri="sqlite:///x.db", experiment="nas")
    run = tracker.run("a", name="a", tags={"nas.plan_reason": "http://me:planted@host"})
    run.params({"data": {"source": "https://h/k?X-Amz-Signature=planted"}})
    run.tags({"nas.end_reason": "Invalid header value b'Bearer planted'"})
    tracker.close()
    (events,) = (tmp_path / "events").iterdir()
    assert events.read_text().count("***") == 3
    assert "planted" not in events.read_text()
