"""Whole runs on MLflow servers with trouble on the way, and servers that runs refuse beforehand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from field_commands import examined, nas
from mlflow import MlflowClient
from mlflow_relay import Answer, Asked, Relay
from mlflow_server import MlflowServer
from mlflow_worlds import (
    completed,
    doctor,
    refused,
    run,
    settings_of,
    shown,
    unsent,
    without_account,
)

Field = Callable[..., None]
pytestmark = pytest.mark.slow

MIB = 2**20
OLD, NEW = "tok-en-that-expires", "tok-en-of-today"


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_account(tmp_path, monkeypatch)


def test_an_outage_during_a_run(mlflow_server: MlflowServer, tmp_path: Path, field: Field) -> None:
    troubles = {"429": Answer(429), "503": Answer(503), "a reset connection": None}
    refusals: list[str] = []

    def unkind(trouble: str) -> Answer:
        refusals.append(trouble)
        answer = troubles[trouble]
        if answer is None:
            raise ConnectionResetError
        return answer

    def for_a_while(asked: Asked) -> Answer | None:
        return unkind(list(troubles)[len(refusals) % 3]) if len(refusals) < 9 else None

    reports = {}
    with Relay(mlflow_server.uri) as relay:
        for trouble in troubles:
            relay.rule = lambda asked, trouble=trouble: unkind(trouble)
            reports[trouble] = doctor(relay.uri)
            assert reports[trouble].startswith("warning tracking: ")
            assert "does not answer" in reports[trouble]
        refusals.clear()
        relay.rule = for_a_while
        ended = run(relay.uri, tmp_path, "registry.model=outage")
        assert len(refusals) == 9
    outcome = completed(ended, mlflow_server.uri, tmp_path, "outage")
    for trouble, word in reports.items():
        field(
            area="MLflow",
            trouble=f"{trouble}, for a while (one run with 429, 503 and resets in turn)",
            doctor=shown(word),
            run=outcome,
        )


def test_a_limit_of_uploads(mlflow_server: MlflowServer, tmp_path: Path, field: Field) -> None:
    def limit(asked: Asked) -> Answer | None:
        page = "<html>413 Request Entity Too Large</html>"
        return Answer(413, page) if asked.length > MIB else None

    with Relay(mlflow_server.uri, rule=limit) as relay:
        word = doctor(relay.uri)
        ended = run(relay.uri, tmp_path, "registry.model=limited")
    assert word.startswith("warning tracking: ")
    assert "client_max_body_size" in word
    assert "client_max_body_size" in ended.out
    field(
        area="MLflow",
        trouble="an ingress that takes bodies of 1 MiB; the model is smaller",
        doctor=shown(word),
        run=completed(ended, mlflow_server.uri, tmp_path, "limited"),
    )


def test_a_deleted_experiment(mlflow_server: MlflowServer, tmp_path: Path, field: Field) -> None:
    client = MlflowClient(mlflow_server.uri)
    client.delete_experiment(client.create_experiment("deleted"))
    settings = ("tracking.experiment=deleted", "registry.model=renamed")
    word = doctor(mlflow_server.uri, "deleted")
    stopped = run(mlflow_server.uri, tmp_path, *settings)
    refused(word, stopped, "is deleted; restore it in MLflow", tmp_path)
    field(
        area="MLflow",
        trouble="a deleted experiment",
        doctor=shown(word),
        run=shown(f"exit 2: {stopped.message}"),
        seconds=round(stopped.seconds, 1),
    )
    renamed = "tracking.deleted_experiment=rename"
    changed = settings_of(mlflow_server.uri, *settings, renamed)
    word = examined("tracking", folder=tmp_path, settings=changed)
    ended = run(mlflow_server.uri, tmp_path, *settings, renamed)
    outcome = completed(ended, mlflow_server.uri, tmp_path, "renamed")
    note = "experiment deleted is deleted in MLflow; this run is tracked in deleted-2"
    assert note in ended.out
    assert word.startswith("ok tracking: ")
    assert note in word
    result = json.loads((tmp_path / "r1" / "result.json").read_text())
    assert result["tracking_experiment"] == "deleted-2"
    found = client.get_experiment_by_name("deleted-2")
    assert client.search_runs([found.experiment_id])
    field(
        area="MLflow",
        trouble=f"a deleted experiment, with {renamed}",
        doctor=shown(word),
        run=f"{outcome}. {note}; so does result.json",
    )


def test_a_token_that_expires_during_a_run(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: Field
) -> None:
    valid = [OLD]

    def log_in(asked: Asked) -> Answer | None:
        has_token = asked.headers.get("Authorization") == f"Bearer {valid[0]}"
        if has_token and valid == [OLD] and asked.path.endswith("log-batch"):
            valid[0] = NEW  # the first step has begun to log
        return None if has_token else Answer(401, "<html>log in</html>")

    settings = ("registry.model=expiring", "tracking.experiment=expiring")
    with Relay(mlflow_server.uri, rule=log_in) as relay:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", OLD)
        word = doctor(relay.uri, "expiring")
        assert word.startswith("ok"), word
        first = run(relay.uri, tmp_path, *settings)
        said = first.out + first.err
        assert first.status == 1, said
        assert said.count("the run goes on, what it logs is kept") == 1
        assert "MLFLOW_TRACKING_TOKEN" in said
        assert (tmp_path / "r1" / "state" / "promote").exists(), "it was trained"
        kept = unsent(tmp_path / "r1")
        assert kept > 20
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", NEW)
        resumed = nas(
            "run",
            "--out",
            "r1",
            "--resume",
            folder=tmp_path,
            settings=settings_of(relay.uri, *settings),
        )
    assert OLD not in said
    outcome = completed(resumed, mlflow_server.uri, tmp_path, "expiring")
    found = MlflowClient(mlflow_server.uri).get_experiment_by_name("expiring")
    assert found is not None
    field(
        area="MLflow",
        line="49",
        trouble="a token that expires while the first step runs",
        doctor=shown(f"before: {word}"),
        run=shown(f"goes on and warns once; exit 1: {first.message}")[:280]
        + f". {kept} events are kept; nas run --resume with a new token: {outcome}",
        seconds=round(first.seconds, 1),
    )
