"""Samples of the machine: of which runs, through outages, and by which of MLflow's variables."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.tracking import Tracker, follower
from components.tracking.replayer import follow
from components.tracking.spool import CLOSED
from components.tracking.system_metrics import OpenRuns, Samples, sampling

Runs = Callable[..., dict]
CPU = "system/cpu_utilization_percentage"
GROUPS = ("cpu_", "system_memory_", "disk_", "network_")


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    for name in ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "NAS_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def open_spool(spool: Path, store: str = "sqlite:////nowhere/mlflow.db") -> Tracker:
    return Tracker.open(spool, uri=store, experiment="nas")


def wait_for_samples(spool: Path, key: str, count: int) -> list[tuple[int, dict[str, float]]]:
    deadline = time.monotonic() + 60  # mlflow is imported first
    while len(found := Samples(spool).of(key)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def declare(tracker: Tracker) -> None:
    tracker.run("p", name="pipeline")
    tracker.run("p.search", name="search", parent="p")


def test_open_runs_are_those_that_were_declared_and_have_not_ended(spool: Path):
    tracker, found = open_spool(spool), OpenRuns(spool)
    assert found.current() == []
    declare(tracker)
    assert found.current() == ["p", "p.search"]
    time.sleep(0.002)
    tracker.run("p.search", name="search", parent="p").end("FAILED")
    assert found.current() == ["p"]
    time.sleep(0.002)
    # Another try, by another writer.
    open_spool(spool).run("p.search", name='"op": "end"', parent="p")
    assert found.current() == OpenRuns(spool).current() == ["p", "p.search"]


def test_each_sample_has_cpu_memory_disk_and_network_and_steps_count_on(spool: Path):
    tracker = open_spool(spool)
    declare(tracker)
    for numbers in (range(2), range(2, 4)):  # another follower
        with sampling(spool) as end:
            found = wait_for_samples(spool, "p.search", numbers.stop)
            end()
            end()
    values = found[0][1]
    for group in GROUPS:
        assert any(name.startswith(f"system/{group}") for name in values), group
    assert 0 < values["system/system_memory_usage_percentage"] < 100
    assert len(Samples(spool).of("p")) == len(Samples(spool).of("p.search"))
    events = [
        json.loads(line)
        for path in sorted((spool / "events").glob("*-system.jsonl"))
        for line in path.read_text().splitlines()
    ]
    steps = [event["step"] for event in events if event["run"] == "p.search"]
    assert steps == list(range(len(steps)))


def test_a_step_that_has_ended_is_sampled_no_more_and_a_child_has_none_that_is_not_its_own(
    spool: Path,
):
    tracker = open_spool(spool)
    declare(tracker)
    with sampling(spool):
        before = wait_for_samples(spool, "p.search", 1)
        time.sleep(0.002)
        tracker.run("p.search", name="search", parent="p").end()
        count = len(Samples(spool).of("p.search")) + 1  # one may be under way
        wait_for_samples(spool, "p", count + 3)
    assert len(Samples(spool).of("p.search")) <= count
    (first_ms, values), *_ = before
    assert Samples(spool).between("p.search", first_ms, first_ms) == [(first_ms, values)]
    assert Samples(spool).between("p.search", first_ms - 9, first_ms - 1) == []


def test_in_a_pod_the_run_of_the_pipeline_has_no_samples_of_one_pod(
    spool: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NAS_RUN_ID", "0aa1")
    declare(open_spool(spool))
    with sampling(spool):
        wait_for_samples(spool, "p.search", 2)
    assert Samples(spool).of("p") == []


def test_mlflows_variable_turns_them_off(spool: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    declare(open_spool(spool))
    with sampling(spool) as end:
        time.sleep(0.5)
        end()
    assert Samples(spool).of("p.search") == []


@pytest.mark.parametrize("given", ["often", "0", "-1", "nan", "inf"])
def test_an_interval_that_is_none_is_reported(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, given: str
):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", given)
    spool.mkdir()
    with sampling(spool):
        pass
    assert "is no number of seconds above 0; 10 s are used" in capsys.readouterr().err


def test_a_monitor_that_fails_ends_alone(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    calls = 0

    def fail(self: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:  # as where the driver of a device was reset
            raise RuntimeError("no such device")

    monkeypatch.setattr(NetworkMonitor, "collect_metrics", fail)
    declare(open_spool(spool))
    with sampling(spool):
        found = wait_for_samples(spool, "p.search", 4)
    assert CPU in found[-1][1]
    assert "system/network_receive_megabytes" not in found[-1][1]
    assert capsys.readouterr().err.count("no more samples of NetworkMonitor") == 1


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    with socket.socket() as silent:  # bound and not listening: connections are refused
        silent.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@pytest.mark.slow
def test_samples_of_an_outage_are_sent_later(spool: Path, store: str, runs_by_key: Runs):
    with closed_port() as uri:
        tracker = open_spool(spool, uri)
        with follower(spool, grace_s=0.1):
            tracker.run("p", name="pipeline")
            step = tracker.run("p.search", name="search", parent="p")
            start_s = time.time()
            wait_for_samples(spool, "p.search", 5)
            step.end()
            tracker.ended_run(
                "p.search.child-0",
                name="child 0",
                parent="p.search",
                params={},
                metrics={},
                tags={},
                seconds=(start_s, time.time()),
                has_samples=True,
            )
            tracker.close()
    count = len(Samples(spool).of("p.search"))
    target = json.loads((spool / "target.json").read_text()) | {"uri": store}
    (spool / "target.json").write_text(json.dumps(target))
    (spool / CLOSED).unlink()
    follow(spool)
    found, client = runs_by_key(store), MlflowClient(store)
    (step_run,), (child,) = found["p.search"], found["p.search.child-0"]
    points = client.get_metric_history(step_run.info.run_id, CPU)
    assert [point.step for point in points] == list(range(count))
    assert 4 <= len(client.get_metric_history(child.info.run_id, CPU)) <= count
