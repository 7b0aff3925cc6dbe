"""What `nas cancel` and `nas status` do about an ended run: a real MLflow has nothing open then."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kfp_commands import IMAGE, QUICK, SCHEDULE, SEARCH, done, nas, refused, with_store
from kfp_nodes import Step
from kfp_server import KfpServer, Look
from kfp_tracked import Tracked
from mlflow_server import MlflowServer

from components.ending import End

RUNNING = Look("RUNNING", (Step("prepare-data"), Step("search", "RUNNING")))
SUCCEEDED = Look("SUCCEEDED", (Step("prepare-data"), Step("search")))
FAILED = Look("FAILED", (Step("prepare-data"), Step("search", "FAILED")))


@pytest.fixture(scope="module")
def mlflow(mlflow_server: MlflowServer) -> Tracked:
    return Tracked(mlflow_server)


def submitted(kfp: KfpServer, mlflow: Tracked, look: Look = RUNNING, *settings: str) -> str:
    command = with_store(mlflow.uri, SEARCH)
    run_id = str(done(*command, "--no-check", *settings)["run_id"])
    kfp.plan(run_id, look)
    return run_id


# --- cancel ---------------------------------------------------------------------------------


def test_cancel_ends_the_run_and_closes_it_in_mlflow(kfp: KfpServer, mlflow: Tracked) -> None:
    run_id = submitted(kfp, mlflow)
    nas("status", run_id)
    opened = mlflow.begin_all(run_id)
    other = mlflow.begin("0" * 32)
    told = done("cancel", run_id, QUICK)
    assert (told["run_id"], told["canceled"], told["state"]) == (run_id, True, "cancelled")
    assert sorted(told["mlflow_closed"]) == sorted(opened)
    assert kfp.runs[run_id]["state"] == "FAILED"
    for each in opened:
        assert mlflow.end_of(each) == ("KILLED", "cancelled by `nas cancel`", "stopped")
    assert mlflow.end_of(other)[0] == "RUNNING"
    assert "has ended already (cancelled)" in refused("cancel", run_id)


def test_the_mlflow_run_of_a_retry_is_that_of_the_first(kfp: KfpServer, mlflow: Tracked) -> None:
    first = submitted(kfp, mlflow, FAILED)
    again = done("retry", first)["run_id"]
    kfp.plan(again, RUNNING)
    (opened, *_) = mlflow.begin_all(first)
    assert done("cancel", again, QUICK)["canceled"]
    assert mlflow.end_of(opened)[0] == "KILLED"


def test_a_run_that_does_not_end_is_left_open(kfp: KfpServer, mlflow: Tracked) -> None:
    run_id = submitted(kfp, mlflow)
    (opened, *_) = mlflow.begin_all(run_id)
    kfp.stops = False
    result = nas("cancel", run_id, QUICK, "--end-within=1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["canceled"] is False
    assert "has not ended within 1 s" in result.stderr
    assert mlflow.end_of(opened)[0] == "RUNNING"
    kfp.plan(run_id, Look("CANCELING"), FAILED)
    assert done("cancel", run_id, QUICK)["canceled"]  # once more is no error
    assert mlflow.end_of(opened)[0] == "KILLED"


def test_a_run_that_was_faster_than_the_cancel(kfp: KfpServer, mlflow: Tracked) -> None:
    run_id = submitted(kfp, mlflow)
    (opened, *_) = mlflow.begin_all(run_id)
    nas("status", run_id)

    def end(request: Any) -> None:
        if request.path.endswith(":terminate"):
            kfp.plan(run_id, SUCCEEDED)
            nas("status", run_id)

    kfp.before = end
    result = nas("cancel", run_id, QUICK)
    assert result.exit_code == 0
    assert "had ended before it was stopped (succeeded)" in result.stdout
    assert mlflow.end_of(opened)[0] == "RUNNING"


def test_a_run_that_was_deleted_with_its_schedule_can_be_closed(
    kfp: KfpServer, mlflow: Tracked
) -> None:
    schedule_id = done(*with_store(mlflow.uri, SCHEDULE), "--no-check")["schedule_id"]
    run_id = kfp.fire(schedule_id, RUNNING)
    opened = mlflow.begin_all(run_id)
    kfp.collect(run_id)
    result = nas("cancel", run_id, QUICK)
    assert result.exit_code == 0
    assert "its workflow is gone" in result.stdout
    assert [mlflow.end_of(each)[0] for each in opened] == ["KILLED"] * 3


def test_a_server_that_cannot_be_reached_from_here_is_told(kfp: KfpServer) -> None:
    run_id = done(*SEARCH)["run_id"]
    kfp.plan(run_id, RUNNING)
    start = time.monotonic()
    told = done("cancel", run_id, QUICK)
    assert time.monotonic() - start < 10
    assert told["canceled"] is True
    assert "http://mlflow.invalid:5000 cannot be reached from here" in told["mlflow_note"]
    assert "the next run of the pipeline closes" in told["mlflow_note"]


def test_no_file_is_made_where_tracking_is_one(
    kfp: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_id = done("submit", IMAGE, "--set=method=random")["run_id"]
    kfp.plan(run_id, RUNNING)
    assert "is a file in the pods" in done("cancel", run_id, QUICK)["mlflow_note"]
    assert list(tmp_path.iterdir()) == []


# --- status ---------------------------------------------------------------------------------


def test_status_closes_what_a_failed_run_has_left_open(kfp: KfpServer, mlflow: Tracked) -> None:
    run_id = submitted(kfp, mlflow)
    opened = mlflow.begin_all(run_id)
    assert "MLflow" not in nas("status", run_id).stderr
    kfp.plan(run_id, FAILED)
    kfp.logs["search"] = End("search", "memory", "out of memory at 2 GiB").line()
    result = nas("status", run_id)
    assert "search failed: memory: out of memory at 2 GiB" in result.stdout
    assert "MLflow: 3 open runs closed" in result.stderr
    for each in opened:
        assert mlflow.end_of(each) == ("FAILED", "search: out of memory at 2 GiB", "memory")
    assert "MLflow" not in nas("status", run_id).stderr


def test_status_of_a_cancelled_run_closes_it_as_killed(kfp: KfpServer, mlflow: Tracked) -> None:
    run_id = submitted(kfp, mlflow)
    (opened, *_) = mlflow.begin_all(run_id)
    kfp.plan(run_id, Look("CANCELING"), FAILED)
    nas("status", run_id)
    assert mlflow.end_of(opened)[0] == "RUNNING"
    nas("status", run_id)
    assert mlflow.end_of(opened) == ("KILLED", "cancelled", "stopped")


def test_what_a_retry_has_taken_over_is_not_closed(kfp: KfpServer, mlflow: Tracked) -> None:
    first = submitted(kfp, mlflow, FAILED)
    again = done("retry", first)["run_id"]
    (opened, *_) = mlflow.begin_all(first)
    kfp.plan(again, RUNNING)
    nas("status", first)
    assert mlflow.end_of(opened)[0] == "RUNNING"
    kfp.plan(again, SUCCEEDED)
    nas("status", first)
    assert mlflow.end_of(opened)[0] == "RUNNING"
    kfp.plan(again, FAILED)
    nas("status", again)
    assert mlflow.end_of(opened)[0] == "FAILED"


def test_a_wait_closes_at_its_end_and_not_between_retries(kfp: KfpServer, mlflow: Tracked) -> None:
    kfp.plans = [[FAILED], [RUNNING, FAILED]]
    opened: list[str] = []
    seen: list[str] = []

    def watch(request: Any) -> None:
        if request.method == "GET" and not opened and kfp.runs:
            opened.extend(mlflow.begin_all(next(iter(kfp.runs))))
        if request.method == "POST" and opened:
            seen.append(mlflow.end_of(opened[0])[0])

    kfp.before = watch
    command = with_store(mlflow.uri, SEARCH)
    result = nas(*command, "--no-check", "--wait", "--retries=1", QUICK)
    assert result.exit_code == 1
    assert seen == ["RUNNING"]
    assert mlflow.end_of(opened[0])[0] == "FAILED"


def test_the_reason_in_mlflow_is_taken_where_the_log_is_gone(
    kfp: KfpServer, mlflow: Tracked
) -> None:
    run_id = submitted(kfp, mlflow, FAILED)
    _, step, _ = mlflow.begin_all(run_id)
    mlflow.tag(step, "nas.end_kind", "input")
    mlflow.tag(step, "nas.end_reason", "seed: must be whole")
    told = done("status", run_id)
    assert told["reason"] == "search: input: seed: must be whole"


def test_a_password_in_a_log_is_not_shown(
    kfp: KfpServer, mlflow: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_KFP_TOKEN", "tok-5f2c9e-secret")
    run_id = submitted(kfp, mlflow, FAILED)
    (opened, *_) = mlflow.begin_all(run_id)
    line = {
        "step": "search",
        "kind": "outage",
        "reason": "postgresql://nas:hunter2@db tok-5f2c9e-secret",
    }
    kfp.logs["search"] = f"nas-end: {json.dumps(line)}"
    shown = nas("status", run_id).output + str(mlflow.end_of(opened))
    assert "postgresql://nas:***@db" in shown
    assert "hunter2" not in shown
    assert "tok-5f2c9e-secret" not in shown


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_told_in_words_that_fit(kfp: KfpServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        uri = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        run_id = done(*with_store(uri, SEARCH), "--no-check")["run_id"]
        kfp.plan(run_id, FAILED)
        threading.Thread(target=hang_up, args=(nobody,), daemon=True).start()
        result = nas("status", run_id)
    assert result.exit_code == 0
    assert "MLflow cannot say why the step ended (" in result.stderr
    assert "earlier tries" not in result.stderr


def hang_up(server: socket.socket) -> None:
    """Close every connection at once."""
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


def test_mlflow_is_not_loaded_for_a_run_that_goes_on(kfp: KfpServer, mlflow: Tracked) -> None:
    run_id = submitted(kfp, mlflow)
    program = f"import sys; from pipelines.cli import main\ntry: main(['status', {run_id!r}])\n"
    program += "except SystemExit: pass\nassert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ, timeout=60)
