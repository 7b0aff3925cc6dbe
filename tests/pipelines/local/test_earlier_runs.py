"""A run sends what earlier runs of the machine have kept for the same store, and nothing else."""

import fcntl
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.tracking import Tracker
from components.tracking.lost_runs import mark_whole
from components.tracking.reading import num_unsent
from components.tracking.replay import lock_of
from pipelines.local.earlier_runs import (
    LATER,
    LOCK,
    forget_sent,
    remember,
    sending_earlier,
    unsent_spools,
)


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> str:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def run_in(folder: Path, uri: str) -> Path:
    """The spool of a run whose step was killed after four events; none of them is sent."""
    spool = folder / "spool"
    tracker = Tracker.open(spool, uri=uri, experiment="nas")
    mark_whole(spool)
    tracker.run(folder.name, name="pipeline")
    ended = tracker.run(f"{folder.name}.search", name="search", parent=folder.name)
    ended.metrics({"accuracy": 0.5})
    ended.end()
    tracker.run(f"{folder.name}.train", name="train", parent=folder.name)
    tracker.close()
    (folder / LOCK).touch()
    assert remember(spool)
    return spool


def wait_until(is_so: Callable[[], Any], *, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def found(uri: str) -> dict[str, Any]:
    """All runs of the experiment by name; each is there once."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("nas")
    runs = [] if experiment is None else client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def test_the_next_run_sends_what_an_ended_one_has_kept_and_ends_its_runs(
    tmp_path: Path, store: str, state_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept, own = run_in(tmp_path / "kept", store), run_in(tmp_path / "own", store)
    with sending_earlier(own):
        wait_until(lambda: "are sent" in capfd.readouterr().err)
    runs = found(store)
    assert {name: run.info.status for name, run in runs.items()} == {
        "pipeline": "FAILED",
        "search": "FINISHED",
        "train": "FAILED",
    }
    assert "the process was killed" in runs["train"].data.tags["nas.end_reason"]
    assert num_unsent(kept) == 0
    assert num_unsent(own) == 5, "its own follower sends these"
    assert len(list((state_home / "nas" / "spools").iterdir())) == 1
    assert unsent_spools(own) == []


def test_of_two_runs_at_once_one_sends(
    tmp_path: Path, store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    kept, own = run_in(tmp_path / "kept", store), run_in(tmp_path / "own", store)
    with lock_of(kept, wait=False), sending_earlier(own):
        time.sleep(4)  # long enough to import mlflow and to send five events
    assert num_unsent(kept) == 5
    assert capfd.readouterr().err == ""


def test_a_run_that_still_works_sends_by_itself(tmp_path: Path, store: str) -> None:
    kept, own = run_in(tmp_path / "kept", store), run_in(tmp_path / "own", store)
    with open(kept.parent / LOCK) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert unsent_spools(own) == []
    assert unsent_spools(own) == [kept]


def test_another_store_does_not_get_the_account_of_this_one(tmp_path: Path, store: str) -> None:
    run_in(tmp_path / "kept", "https://mlflow.example.org")
    assert unsent_spools(run_in(tmp_path / "own", store)) == []


def test_an_unreachable_store_never_delays_the_run(tmp_path: Path) -> None:
    with socket.socket() as mute:  # it takes connections and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        kept, own = run_in(tmp_path / "kept", uri), run_in(tmp_path / "own", uri)
        with sending_earlier(own):
            time.sleep(3)
            start = time.monotonic()
    assert time.monotonic() - start < 4
    assert num_unsent(kept) >= 5
    assert unsent_spools(own) == [kept]


def test_the_message_of_a_run_names_the_next_run_and_the_command(
    tmp_path: Path, store: str
) -> None:
    client = MlflowClient(store)
    client.delete_experiment(client.create_experiment("nas"))
    spool = run_in(tmp_path / "kept", store)
    command = [sys.executable, "-m", "components.tracking.replayer"]
    done = subprocess.run(
        [*command, f"--spool={spool}", f"--later={LATER}"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join(done.stderr.split())
    assert "9 events are not sent yet; they are kept, and the next run on this machine" in said
    command_text = f"python -m components.tracking.replayer --spool {spool}"
    assert f"Or send them when the store is back with {command_text}" in said


def test_damaged_and_removed_spools_disturb_nothing(
    tmp_path: Path, store: str, state_home: Path
) -> None:
    own = run_in(tmp_path / "own", store)
    (run_in(tmp_path / "damaged", store) / "state.json").write_text("{")
    shutil.rmtree(run_in(tmp_path / "removed", store).parent)
    assert unsent_spools(own) == []
    assert len(list((state_home / "nas" / "spools").iterdir())) == 2, "the removed one is forgotten"


def test_without_a_home_the_run_goes_on_and_promises_nothing(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = run_in(tmp_path / "own", store)
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    assert not remember(own)
    assert unsent_spools(own) == []
    forget_sent(own)
