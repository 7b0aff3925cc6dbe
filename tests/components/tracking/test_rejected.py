"""Events that a server rejects: their files stay in the spool, and a command sends them again."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_relay import Answer, Asked, Relay
from mlflow_server import MlflowServer

from components.tracking import Tracker
from components.tracking.replay import restore_rejected
from components.tracking.replayer import SENT, follow

SPOOL = "components.tracking.replayer", "--spool"


def too_large(asked: Asked) -> Answer | None:
    return Answer(413, "<html>413</html>") if asked.length > 1000 else None


@pytest.mark.slow
def test_an_artifact_above_the_limit_of_a_proxy_is_kept_and_sent_by_a_command(
    tmp_path: Path,
    mlflow_server: MlflowServer,
    runs_by_key: Callable[..., dict],
    capfd: pytest.CaptureFixture[str],
) -> None:
    spool, content = tmp_path / "spool", "x" * 2000
    (tmp_path / "large.txt").write_text(content)
    (tmp_path / "small.txt").write_text("y")
    with Relay(mlflow_server.uri, rule=too_large) as relay:
        tracker = Tracker.open(spool, uri=relay.uri, experiment="limited")
        run = tracker.run("p", name="pipeline")
        for name in ("large.txt", "small.txt"):
            run.artifact(tmp_path / name)
        run.end()
        tracker.close()
        assert follow(spool) == SENT
        (kept,) = (spool / "files").rglob("*.txt")
        assert kept.read_text() == content
        said = capfd.readouterr().err
        assert "raise its limit, such as client_max_body_size" in said
        assert f"{' '.join(SPOOL)} {spool} --rejected" in said
        (found,) = runs_by_key(mlflow_server.uri, "limited")["p"]
        assert files(mlflow_server, found.info.run_id) == ["small.txt"]
        relay.rule = None
        command = [sys.executable, "-m", *SPOOL, str(spool), "--rejected"]
        assert subprocess.run(command, timeout=60, check=False).returncode == SENT
    assert files(mlflow_server, found.info.run_id) == ["large.txt", "small.txt"]
    assert not (spool / "rejected.jsonl").exists()
    assert not list((spool / "files").iterdir())
    (found,) = runs_by_key(mlflow_server.uri, "limited")["p"]
    assert found.info.status == "FINISHED"


def files(server: MlflowServer, run_id: str) -> list[str]:
    return sorted(file.path for file in MlflowClient(server.uri).list_artifacts(run_id))


def test_what_is_rejected_again_is_in_the_file_once(tmp_path: Path, store: str) -> None:
    tracker = Tracker.open(tmp_path, uri=store, experiment="nas")
    run = tracker.run("p", name="pipeline")
    run.metrics({"loss": 1.0, "not|a|name": 2.0}, 3)
    with open(next((tmp_path / "events").iterdir()), "ab") as file:
        file.write(b"{torn\n")
    assert follow(tmp_path) == SENT
    before = (tmp_path / "rejected.jsonl").read_text()
    event, torn = (json.loads(line)["event"] for line in before.splitlines())
    assert (event["op"], event["step"], event["values"]) == ("metrics", 3, {"not|a|name": 2.0})
    assert restore_rejected(tmp_path) == 1
    assert json.loads((tmp_path / "rejected.jsonl").read_text())["event"] == torn
    assert follow(tmp_path) == SENT
    assert sorted((tmp_path / "rejected.jsonl").read_text().splitlines()) == sorted(
        before.splitlines()
    )
    (found,) = MlflowClient(store).search_runs(["1"])
    assert found.data.metrics == {"loss": 1.0}
