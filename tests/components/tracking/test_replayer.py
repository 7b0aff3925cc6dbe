"""The follower against a real MLflow store on SQLite, read back by MLflow's own client."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from components.tracking import Tracker, follower, wait_for_run
from components.tracking.reading import State, num_unsent
from components.tracking.replayer import SENT, UNSENT, Follower, follow

COMMAND = [sys.executable, "-m", "components.tracking.replayer", "--spool"]
Runs = Callable[..., dict]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def tracker(spool: Path, store: str) -> Tracker:
    return Tracker.open(spool, uri=store, experiment="nas")


def history(store: str, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in MlflowClient(store).get_metric_history(run_id, key)]


def log_a_pipeline(tracker: Tracker, folder: Path) -> None:
    """A bit of everything that steps log."""
    report = folder / "report"
    report.mkdir()
    (report / "page.html").write_text("<p>page</p>")
    (folder / "result.json").write_text("{}")
    pipeline = tracker.run("p", name="nases on digits", tags={"nas.seed": "0"})
    search = tracker.run("p.search", name="search", parent="p")
    search.params({"search": {"budget": {"children": 16}}, "space": "x" * 7000})
    for step in range(30):
        search.metrics({"search/reward": step / 30, "search/entropy": 1.0}, step)
    child = tracker.run("p.search.child-3", name="child 3", parent="p.search")
    child.metrics({"valid_accuracy": 0.9, "loss": float("nan"), "gap": float("-inf")})
    child.end()
    search.table([{"number": 0, "accuracy": 0.5}, {"number": 1, "accuracy": None}], "children.json")
    pipeline.artifact(folder / "result.json", "result")
    pipeline.artifact(report)
    search.end()
    pipeline.tags({"nas.verdict": "undecided"})
    pipeline.end("FAILED")


def check_the_pipeline(store: str, runs: Runs) -> None:
    mlflow.set_tracking_uri(store)  # `load_table` looks there, whatever its client says
    client = MlflowClient(store)
    found = runs(store)
    assert sorted(found) == ["p", "p.search", "p.search.child-3"]
    (pipeline,), (search,), (child,) = (found[key] for key in sorted(found))
    assert search.data.tags["mlflow.parentRunId"] == pipeline.info.run_id
    assert child.data.tags["mlflow.parentRunId"] == search.info.run_id
    assert [run.info.status for run in (pipeline, search, child)] == [
        "FAILED",
        "FINISHED",
        "FINISHED",
    ]
    assert pipeline.info.run_name == "nases on digits"
    assert pipeline.data.tags["nas.seed"] == "0"
    assert pipeline.data.tags["nas.verdict"] == "undecided"
    assert search.data.params["search.budget.children"] == "16"
    assert "params/space.txt" in search.data.params["space"]
    assert len(mlflow.artifacts.load_text(f"{search.info.artifact_uri}/params/space.txt")) == 7000
    curve = history(store, search.info.run_id, "search/reward")
    assert curve == [(step, step / 30) for step in range(30)]
    assert len(history(store, search.info.run_id, "search/entropy")) == 30
    assert set(child.data.metrics) == {"valid_accuracy", "loss"}
    assert child.data.tags["nas.infinite.gap"] == "-inf at step 0"
    assert len(history(store, child.info.run_id, "loss")) == 1
    table = client.load_table(search.info.experiment_id, "children.json", [search.info.run_id])
    assert list(table.columns) == ["number", "accuracy"]
    assert len(table) == 2
    paths = [file.path for file in client.list_artifacts(pipeline.info.run_id)]
    assert paths == ["report", "result"]
    assert mlflow.artifacts.load_text(f"{pipeline.info.artifact_uri}/report/page.html")


def test_everything_arrives_and_a_second_replay_changes_nothing(
    spool: Path, store: str, tracker: Tracker, tmp_path: Path, runs_by_key: Runs
):
    log_a_pipeline(tracker, tmp_path)
    assert follow(spool) == SENT
    check_the_pipeline(store, runs_by_key)
    (spool / "state.json").unlink()
    for event in (spool / "events").iterdir():  # artifacts are gone after they were sent
        lines = [line for line in event.read_text().splitlines(True) if '"path"' not in line]
        event.write_text("".join(lines))
    assert follow(spool) == SENT
    check_the_pipeline(store, runs_by_key)
    assert not (spool / "rejected.jsonl").exists()


def test_artifacts_lie_beside_the_database_and_leave_the_spool(
    spool: Path, store: str, tracker: Tracker, tmp_path: Path, runs_by_key: Runs
):
    log_a_pipeline(tracker, tmp_path)
    follow(spool)
    experiment = MlflowClient(store).get_experiment_by_name("nas")
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()
    assert list((spool / "files").iterdir()) == []


def test_a_crash_after_sending_and_before_noting_it_does_no_harm(
    spool: Path,
    store: str,
    tracker: Tracker,
    tmp_path: Path,
    runs_by_key: Runs,
    monkeypatch: pytest.MonkeyPatch,
):
    log_a_pipeline(tracker, tmp_path)
    total = num_unsent(spool)
    crashes = 0
    while left := num_unsent(spool):
        crash_at_save(1, spool, monkeypatch)
        assert num_unsent(spool) == left
        crash_at_save(2, spool, monkeypatch)
        assert num_unsent(spool) < left
        crashes += 1
    assert 10 < crashes <= total
    check_the_pipeline(store, runs_by_key)


class Killed(BaseException):
    """Not an error that a follower could catch."""


def crash_at_save(which: int, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new follower sends, and dies when it is about to note what it sent."""
    save, calls = State.save, iter(range(1, which + 1))

    def crash(self: State, spool: Path) -> None:
        if next(calls) == which:
            raise Killed
        save(self, spool)

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(State, "save", crash)
        Follower(spool).drain(last=True)


def test_a_run_that_another_writer_declares_later_is_waited_for(
    spool: Path, store: str, tracker: Tracker, runs_by_key: Runs
):
    from components.tracking.spool import TrackedRun

    worker = Tracker.open(spool, uri=store, experiment="nas")
    TrackedRun(worker, "search").metrics({"reward": 0.5}, 1)
    replay = Follower(spool)
    assert replay.drain(last=False) is False
    time.sleep(0.002)
    tracker.run("other", name="other")
    assert replay.drain(last=False) is True  # only the worker's own file waits
    tracker.run("search", name="search")
    assert replay.drain(last=True) is True
    (run,) = runs_by_key(store)["search"]
    assert history(store, run.info.run_id, "reward") == [(1, 0.5)]
    assert num_unsent(spool) == 0


def test_what_can_never_be_sent_is_put_aside_and_the_rest_arrives(
    spool: Path, store: str, tracker: Tracker, runs_by_key: Runs, capsys: pytest.CaptureFixture
):
    from components.tracking.spool import TrackedRun

    run = tracker.run("a", name="a")
    TrackedRun(tracker, "undeclared").metrics({"loss": 1.0})
    for step in range(50):
        run.metrics({"loss": 1.0, **({"not|a|name": 2.0} if step == 20 else {})}, step)
    tracker.append("a", "artifact", path="files/gone/x.txt", folder="")
    tracker.append("a", "from the future")
    (path,) = (spool / "events").iterdir()
    with open(path, "ab") as file:
        file.write(b'{"torn": \n{"run": "a"')
    assert follow(spool) == SENT
    (found,) = runs_by_key(store)["a"]
    assert len(history(store, found.info.run_id, "loss")) == 50
    rejected = [json.loads(line) for line in (spool / "rejected.jsonl").read_text().splitlines()]
    reasons = " ".join(entry["reason"] for entry in rejected)
    assert len(rejected) == 5
    for words in ("never declared", "not|a|name", "no longer in the spool", "unknown", "not an"):
        assert words in reasons
    assert capsys.readouterr().err.count("cannot be sent") == 5


def test_a_retried_step_goes_on_with_its_run_and_other_values_are_kept(
    spool: Path, store: str, runs_by_key: Runs
):
    for attempt in (1, 2):
        tracker = Tracker.open(spool, uri=store, experiment="nas")
        run = tracker.run("step", name="step")
        run.params({"seed": 0, "attempt": attempt})
        if attempt == 1:
            run.end("FAILED")
        tracker.close()
        follow(spool)
    (found,) = runs_by_key(store)["step"]
    assert found.info.status == "RUNNING"
    assert found.data.params == {"seed": "0", "attempt": "1"}
    assert found.data.tags["nas.changed.attempt"] == "2"


def make_foreign_runs(store: str) -> tuple[str, str, str]:
    """A run for a pipeline and one for a task, as KFP's plugin makes them, elsewhere."""
    client = MlflowClient(store)
    experiment_id = client.create_experiment("kfp")
    pipeline = client.create_run(experiment_id).info.run_id
    tags = {"mlflow.parentRunId": pipeline}
    return experiment_id, pipeline, client.create_run(experiment_id, tags=tags).info.run_id


def log_adopting(spool: Path, store: str, given: str) -> None:
    tracker = Tracker.open(spool, uri=store, experiment="nas")
    pipeline = tracker.run("p", name="pipeline", adopt_parent_of=given)
    step = tracker.run("p.search", name="search", parent="p", adopt=given)
    child = tracker.run("p.search.child-0", name="child", parent="p.search")
    for run in (child, step, pipeline):
        run.metrics({"accuracy": 0.5})
        run.end()
    tracker.close()


def test_runs_of_another_system_are_adopted_and_left_running(
    spool: Path, store: str, runs_by_key: Runs
):
    _, pipeline_id, task_id = make_foreign_runs(store)
    log_adopting(spool, store, task_id)
    follow(spool)
    (spool / "state.json").unlink()
    follow(spool)  # as a retry with a fresh disk would
    found = runs_by_key(store, "kfp")
    assert {key: [run.info.run_id for run in runs] for key, runs in found.items()} == {
        "p": [pipeline_id],
        "p.search": [task_id],
        "p.search.child-0": [found["p.search.child-0"][0].info.run_id],
    }
    assert found["p"][0].info.status == "RUNNING"
    assert found["p.search"][0].info.status == "RUNNING"
    assert found["p.search.child-0"][0].info.status == "FINISHED"
    assert found["p.search.child-0"][0].data.tags["mlflow.parentRunId"] == task_id
    assert found["p.search"][0].data.metrics == {"accuracy": 0.5}
    assert runs_by_key(store) == {}
    assert wait_for_run(spool, "p", timeout_s=0) == pipeline_id


def test_an_adopted_run_without_a_parent_is_the_pipeline_itself(
    spool: Path, store: str, runs_by_key: Runs
):
    _, pipeline_id, _ = make_foreign_runs(store)
    log_adopting(spool, store, pipeline_id)
    follow(spool)
    found = runs_by_key(store, "kfp")
    assert [run.info.run_id for run in found["p"]] == [pipeline_id]
    (step,) = found["p.search"]
    assert step.data.tags["mlflow.parentRunId"] == pipeline_id
    assert step.info.status == "FINISHED"


def test_an_id_that_the_store_does_not_know_is_not_adopted(
    spool: Path, store: str, runs_by_key: Runs
):
    log_adopting(spool, store, "0" * 32)
    follow(spool)
    found = runs_by_key(store)
    assert sorted(found) == ["p", "p.search", "p.search.child-0"]
    assert found["p"][0].info.status == "FINISHED"


def test_a_thousand_points_take_no_longer_than_a_call_or_two(
    spool: Path, store: str, tracker: Tracker
):
    run = tracker.run("a", name="a")
    for step in range(1000):
        run.metrics({"loss": step}, step)
    start = time.process_time()
    follow(spool)
    # 0.4 s of work; one call a point would be 8 s.
    assert time.process_time() - start < 4
    assert len(history(store, wait_for_run(spool, "a", timeout_s=0), "loss")) == 1000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_five_times_each_point_is_there_once(spool: Path, store: str, runs_by_key: Runs):
    """Two writers, some of whose events wait for each other's, and a follower that is killed."""
    writers = [Tracker.open(spool, uri=store, experiment="nas") for _ in range(2)]
    for number in range(18):
        writer, other = writers[number % 2], writers[(number + 1) % 2]
        run = writer.run(f"run-{number}", name=f"run {number}")
        for step in range(40):
            run.metrics({"loss": step / 7, "accuracy": step / 40}, step)
        run.params({"number": number})
        other.run(f"run-{number}", name=f"run {number}").tags({"seen": "yes"})
        run.end()
    total = sum(path.stat().st_size for path in (spool / "events").iterdir())
    for part in range(1, 6):
        process = subprocess.Popen([*COMMAND, str(spool)])
        while sum(State.load(spool).sent.values()) < total * part / 6:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert num_unsent(spool) > 0
    assert subprocess.run([*COMMAND, str(spool)]).returncode == SENT
    found = runs_by_key(store)
    assert sorted(found) == sorted(f"run-{number}" for number in range(18))
    for key, runs in found.items():
        (run,) = runs
        assert run.data.tags["seen"] == "yes"
        assert run.data.params == {"number": key.removeprefix("run-")}
        for name, scale in (("loss", 7), ("accuracy", 40)):
            points = history(store, run.info.run_id, name)
            assert points == [(step, step / scale) for step in range(40)]


@pytest.mark.slow
def test_the_follower_beside_a_step_sends_while_it_works_and_ends_with_it(
    spool: Path, store: str, runs_by_key: Runs
):
    with follower(spool):
        tracker = Tracker.open(spool, uri=store, experiment="nas")
        run = tracker.run("a", name="a")
        assert wait_for_run(spool, "a", timeout_s=60)
        run.metrics({"loss": 1.0})
        run.end()
        tracker.close()
    (found,) = runs_by_key(store)["a"]
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"loss": 1.0}


@pytest.mark.slow
def test_a_follower_whose_step_was_killed_sends_what_is_there_and_ends(
    spool: Path, store: str, runs_by_key: Runs
):
    code = (
        "import os, signal; from pathlib import Path\n"
        "from components.tracking import Tracker, follower\n"
        f"spool = Path({str(spool)!r})\n"
        "with follower(spool):\n"
        f"    tracker = Tracker.open(spool, uri={store!r}, experiment='nas')\n"
        "    tracker.run('a', name='a').metrics({'loss': 1.0})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # The follower holds the pipe open until it ends.
    step = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=120)
    assert step.returncode == -signal.SIGKILL
    assert num_unsent(spool) == 0
    assert runs_by_key(store)["a"][0].data.metrics == {"loss": 1.0}


def test_a_store_that_is_killed_while_it_is_made_is_made_again(tmp_path: Path) -> None:
    """MLflow makes its tables in dozens of steps: a file with half of them would be of no use."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = f"from components.tracking.client import make_store; make_store({uri!r})"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".mlflow.db.*/mlflow.db")):  # it has begun
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not (tmp_path / "mlflow.db").exists()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert [one.name for one in MlflowClient(uri).search_experiments()] == ["Default"]
    before = (tmp_path / "mlflow.db").read_bytes()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_an_experiment_deleted_during_a_run_keeps_all_for_later(
    tmp_path: Path, store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker.open(tmp_path, uri=store, experiment="gone")
    run = tracker.run("p", name="pipeline")
    assert follow(tmp_path) == SENT
    client = MlflowClient(tracking_uri=store)
    found = client.get_experiment_by_name("gone")
    client.delete_experiment(found.experiment_id)
    run.metrics({"accuracy": 0.5})
    run.tags({"late": "yes"})
    assert follow(tmp_path) == UNSENT
    assert "mlflow experiments restore" in capfd.readouterr().err
    assert not (tmp_path / "rejected.jsonl").exists()
    client.restore_experiment(found.experiment_id)
    assert follow(tmp_path) == SENT
    (sent,) = client.search_runs([found.experiment_id])
    assert sent.data.metrics == {"accuracy": 0.5}
    assert sent.data.tags["late"] == "yes"
