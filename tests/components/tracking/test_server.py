"""The follower and a real `mlflow server`, which is not always there."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer

from components.tracking import Tracker, check_store, follower, wait_for_run
from components.tracking.reading import num_unsent

COMMAND = [sys.executable, "-m", "components.tracking.replayer", "--spool"]
UNSENT = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    server = MlflowServer(folder)
    yield server
    server.stop()


@pytest.mark.slow
def test_what_is_not_sent_stays_and_its_message_tells_how_to_send_it(
    tmp_path: Path,
    server: MlflowServer,
    runs_by_key: Callable[..., dict],
    capfd: pytest.CaptureFixture,
):
    spool = tmp_path / "spool"
    uri = server.uri.replace("//", "//me:secret@")
    server.stop()
    start = time.monotonic()
    with follower(spool, grace_s=6):
        tracker = Tracker.open(spool, uri=uri, experiment="later")
        tracker.run("a", name="a").metrics({"loss": 1.0})
        tracker.close()
    assert time.monotonic() - start < 60
    output = capfd.readouterr().err
    assert "2 events are not sent yet" in output
    assert "secret" not in output
    command = re.search(r"python (-m components\S+ --spool \S+)", output).group(1)
    server.start()
    assert subprocess.run([sys.executable, *command.split()]).returncode == 0
    (found,) = runs_by_key(server.uri, "later")["a"]
    assert found.data.metrics == {"loss": 1.0}


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_loses_nothing(
    tmp_path: Path,
    server: MlflowServer,
    runs_by_key: Callable[..., dict],
    capfd: pytest.CaptureFixture,
):
    server.start()
    assert check_store(server.uri) == ([], [])
    artifact = tmp_path / "result.json"
    artifact.write_text("{}")
    longest = 0.0
    with follower(tmp_path / "spool"):
        tracker = Tracker.open(tmp_path / "spool", uri=server.uri, experiment="outage")
        run = tracker.run("a", name="a")
        assert wait_for_run(tmp_path / "spool", "a", timeout_s=60)
        for step in range(1000):
            if step == 300:
                server.stop()
            start = time.perf_counter()
            run.metrics({"loss": step}, step)
            longest = max(longest, time.perf_counter() - start)
            time.sleep(0.002)
        run.artifact(artifact)
        run.end()
        while "the tracking store is unreachable" not in (warning := capfd.readouterr().err):
            time.sleep(0.1)
        assert str(tmp_path / "spool") in warning
        server.start()
        tracker.close()
    assert num_unsent(tmp_path / "spool") == 0
    (found,) = runs_by_key(server.uri, "outage")["a"]
    assert found.info.status == "FINISHED"
    client = MlflowClient(server.uri)
    points = client.get_metric_history(found.info.run_id, "loss")
    assert [(point.step, point.value) for point in points] == [(n, n) for n in range(1000)]
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["result.json"]
    assert "the tracking store is back" in capfd.readouterr().err
    # A waiting writer would show seconds; half a second is a busy disk.
    assert longest < 0.5


def test_a_follower_that_is_asked_to_end_reports_what_it_leaves(tmp_path: Path):
    with socket.socket() as silent:  # bound and not listening: connections are refused
        silent.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracker = Tracker.open(tmp_path, uri=uri, experiment="nas")
        tracker.run("a", name="a")
        process = subprocess.Popen(
            [*COMMAND, str(tmp_path)], stderr=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stderr is not None
        assert "the tracking store is unreachable" in process.stderr.readline()
        process.terminate()
        assert "1 events are not sent yet" in process.stderr.read()
        assert process.wait() == UNSENT


def test_a_model_is_registered_through_the_server(mlflow_server: MlflowServer):
    import numpy as np
    import torch
    from torch import nn

    from components.config.settings import PromoteConfig
    from components.registry import model_registry
    from components.registry.lookup import CHAMPION
    from components.registry.promotion import Candidate, promote
    from components.registry.test_sets import ImageTestSet

    client = MlflowClient(
        mlflow_server.uri, mlflow_server.uri
    )  # tests before may have set another registry
    run_id = client.create_run(client.create_experiment("models")).info.run_id
    made = model_registry.register(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval(),
        np.zeros((2, 1, 8, 8), np.float32),
        uri=mlflow_server.uri,
        run_id=run_id,
        model_name="net",
        tags={},
    )
    decision = promote(
        Candidate(made, np.ones(2, bool), num_params=650, latency_ms=1.0),
        uri=mlflow_server.uri,
        test_set=ImageTestSet(lambda: [torch.zeros(2, 1, 8, 8)], torch.zeros(2, dtype=torch.long)),
        config=PromoteConfig(),
        rng=np.random.default_rng(0),
    )
    assert decision.alias == CHAMPION
    assert str(client.get_model_version_by_alias("net", "champion").version) == made.version
    assert client.get_run(run_id).info.status == "RUNNING"
