"""What users of MLflow look for in a run, after the replay to a real store: each of it once."""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow_server import MlflowServer

from components.tracking import Tracker
from components.tracking.replay import Follower
from components.tracking.replayer import SENT, follow

Runs = Callable[..., dict]
DATASETS = [
    {
        "name": "flowers",
        "digest": digest,
        "source_type": "local",
        "source": '{"uri": "/data/flowers"}',
        "schema": '{"mlflow_tensorspec": {"features": "[]", "targets": null}}',
        "profile": '{"num_images": 12}',
        "context": context,
    }
    for digest, context in (("1a", "train"), ("2b", "validation"), ("3c", "test"))
]
TEST_SET = DATASETS[2]
SENDING = ("create_run", "log_batch", "log_inputs", "log_artifact", "set_tag", "set_terminated")
"""Calls of MLflow's client that change something."""


@pytest.fixture
def model(store: str) -> str:
    """URI of a registered version of a logged model."""
    mlflow.set_tracking_uri(store)  # `create_model_version` looks there for the logged model
    client = MlflowClient(store, store)
    logged = client.create_logged_model(client.create_experiment("models"), name="model")
    client.finalize_logged_model(logged.model_id, "READY")
    client.create_registered_model("net")
    client.create_model_version("net", f"models:/{logged.model_id}", model_id=logged.model_id)
    return "models:/net/1"


def log_run(tracker: Tracker, model: str) -> None:
    """All kinds of events that a pipeline with one child logs."""
    pipeline = tracker.run("p", name="random on flowers", tags={"mlflow.source.name": "nas run"})
    search = tracker.run("p.search", name="search", parent="p")
    pipeline.inputs(DATASETS)
    search.inputs(DATASETS[:2])
    sampled = Tracker(tracker.spool, label="system")
    for step in range(4):
        sampled.append("p.search", "metrics", values={"system/cpu": step}, step=step)
        time.sleep(0.01)
    events = list(map(json.loads, _lines(tracker.spool, "*-system.jsonl")))
    first_s, last_s = (events[place]["time_ms"] / 1000 for place in (1, 2))
    sampled.close()
    for number in range(3):
        tracker.ended_run(
            f"p.search.child-{number}",
            name=f"child {number}",
            parent="p.search",
            params={"arm": "method", "number": number},
            metrics={"valid_accuracy": number / 10},
            tags={"nas.genotype": "chain:1-2"},
            seconds=(first_s, last_s),
            has_samples=number == 0,
            status="FINISHED" if number < 2 else "FAILED",
        )
    search.table([{"class": "cat", "recall": 0.5}], "per_class.json")
    search.end()
    pipeline.model_metrics({"test_accuracy": 0.75}, model=model, dataset=TEST_SET)
    pipeline.model_metrics({"latency_p50_ms": 1.5}, model=model)
    pipeline.end()
    tracker.close()


def _lines(spool: Path, pattern: str) -> Iterator[str]:
    for path in (spool / "events").glob(pattern):
        yield from path.read_text().splitlines()


def check_run(uri: str, runs: Runs, model: str) -> None:
    client, found = MlflowClient(uri, uri), runs(uri)
    assert sorted(found) == ["p", "p.search", *(f"p.search.child-{n}" for n in range(3))]
    assert {len(same) for same in found.values()} == {1}
    (pipeline,), (search,) = found["p"], found["p.search"]
    check_inputs(pipeline, search)
    check_children(client, search, found)
    check_model(client, pipeline, model)
    mlflow.set_tracking_uri(uri)
    table = client.load_table(search.info.experiment_id, "per_class.json", [search.info.run_id])
    assert table.to_dict("records") == [{"class": "cat", "recall": 0.5}]
    assert json.loads(search.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "per_class.json", "type": "table"}
    ]
    assert {run.info.status for run in (pipeline, search)} == {"FINISHED"}


def check_inputs(pipeline: Any, search: Any) -> None:
    def shown(run: Any) -> list[tuple[str, str, dict[str, str]]]:
        inputs = run.inputs.dataset_inputs
        return sorted(
            (one.dataset.name, one.dataset.digest, {tag.key: tag.value for tag in one.tags})
            for one in inputs
        )

    expected = [(d["name"], d["digest"], {"mlflow.data.context": d["context"]}) for d in DATASETS]
    assert shown(pipeline) == expected
    assert shown(search) == expected[:2]
    first = pipeline.inputs.dataset_inputs[0].dataset
    assert (first.source, first.source_type) == ('{"uri": "/data/flowers"}', "local")
    assert json.loads(first.profile) == {"num_images": 12}


def check_children(client: MlflowClient, search: Any, found: dict) -> None:
    where = (
        f"tags.`mlflow.parentRunId` = '{search.info.run_id}' and params.arm = 'method' "
        "and metrics.valid_accuracy > 0.05 and attributes.status = 'FINISHED'"
    )
    (child,) = client.search_runs([search.info.experiment_id], where)
    assert child.info.run_name == "child 1"
    (sampled,), (other,) = found["p.search.child-0"], found["p.search.child-2"]
    history = client.get_metric_history(sampled.info.run_id, "system/cpu")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 2.0)]
    assert history[0].timestamp == sampled.info.start_time
    assert history[-1].timestamp == sampled.info.end_time
    assert other.info.status == "FAILED"
    assert other.data.metrics == {"valid_accuracy": 0.2}, "it ran on another machine"
    points = client.get_metric_history(other.info.run_id, "valid_accuracy")
    assert len(points) == 1


def check_model(client: MlflowClient, pipeline: Any, model: str) -> None:
    assert pipeline.data.metrics == {"test_accuracy": 0.75, "latency_p50_ms": 1.5}
    version = client.get_model_version("net", model.rpartition("/")[2])
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    measured = {
        one.key: (one.value, one.dataset_name, one.dataset_digest, one.run_id)
        for one in logged.metrics
    }
    run_id = pipeline.info.run_id
    assert len(logged.metrics) == 2
    assert measured["test_accuracy"] == (0.75, "flowers", "3c", run_id)
    assert measured["latency_p50_ms"][0] == 1.5
    assert measured["latency_p50_ms"][1] is None


def open_spool(spool: Path, store: str) -> Tracker:
    return Tracker.open(spool, uri=store, experiment="nas")


def test_everything_arrives_and_a_second_replay_changes_nothing(
    tmp_path: Path, store: str, model: str, runs_by_key: Runs
):
    spool = tmp_path / "spool"
    log_run(open_spool(spool, store), model)
    assert follow(spool) == SENT
    check_run(store, runs_by_key, model)
    (spool / "state.json").unlink()
    for events in (spool / "events").iterdir():  # files are gone after they were sent
        lines = [line for line in events.read_text().splitlines(True) if '"path"' not in line]
        events.write_text("".join(lines))
    assert follow(spool) == SENT
    check_run(store, runs_by_key, model)
    assert not (spool / "rejected.jsonl").exists()


class Killed(BaseException):
    """Not an error that a follower could catch."""


def test_a_follower_that_is_killed_after_any_call_leaves_nothing_twice(
    tmp_path: Path, store: str, model: str, runs_by_key: Runs, monkeypatch: pytest.MonkeyPatch
):
    spool = tmp_path / "spool"
    log_run(open_spool(spool, store), model)
    count = {"calls": 0, "kill after": 0}

    def killing(name: str) -> Callable[..., Any]:
        call = getattr(MlflowClient, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            answer = call(*args, **kwargs)
            count["calls"] += 1
            if count["calls"] == count["kill after"]:
                raise Killed
            return answer

        return wrapped

    for name in SENDING:
        monkeypatch.setattr(MlflowClient, name, killing(name))
    kills = 0
    for calls in range(1, 60):  # each follower gets further than the one before
        count |= {"calls": 0, "kill after": calls}
        with contextlib.suppress(Killed):
            Follower(spool).drain(last=True)
            break
        kills += 1
    assert kills > 4
    monkeypatch.undo()
    check_run(store, runs_by_key, model)
    assert not (spool / "rejected.jsonl").exists()


def test_an_experiment_opens_as_classic_training_and_one_that_is_there_is_left_as_it_is(
    tmp_path: Path, store: str
):
    client = MlflowClient(store)
    client.create_experiment("theirs", tags={"mlflow.experimentKind": "genai_development"})
    for name in ("ours", "theirs"):
        tracker = Tracker.open(tmp_path / name, uri=store, experiment=name)
        tracker.run("a", name="a")
        tracker.close()
        follow(tmp_path / name)
    kinds = [
        client.get_experiment_by_name(name).tags["mlflow.experimentKind"]
        for name in ("ours", "theirs")
    ]
    assert kinds == ["custom_model_development", "genai_development"]


def test_metrics_of_a_model_that_was_deleted_are_kept(
    tmp_path: Path, store: str, model: str, runs_by_key: Runs
):
    MlflowClient(store, store).delete_model_version("net", "1")
    tracker = open_spool(tmp_path / "spool", store)
    tracker.run("a", name="a").model_metrics({"test_accuracy": 0.5}, model=model, dataset=TEST_SET)
    tracker.close()
    assert follow(tmp_path / "spool") == SENT
    assert runs_by_key(store)["a"][0].data.metrics == {"test_accuracy": 0.5}


def test_metrics_are_kept_where_the_model_is_of_another_store_or_was_wiped(
    tmp_path: Path, store: str, model: str, runs_by_key: Runs, monkeypatch: pytest.MonkeyPatch
):
    with contextlib.closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("DELETE FROM logged_models")  # as `mlflow gc` does
        database.commit()
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:////nowhere/registry.db")
    tracker = open_spool(tmp_path / "spool", store)
    tracker.run("a", name="a").model_metrics({"test_accuracy": 0.5}, model=model, dataset=TEST_SET)
    tracker.close()
    assert follow(tmp_path / "spool") == SENT
    assert runs_by_key(store)["a"][0].data.metrics == {"test_accuracy": 0.5}
    assert not (tmp_path / "spool" / "rejected.jsonl").exists()


# --- a server that lacks an endpoint ----------------------------------------------------------


@contextlib.contextmanager
def lacking(server: str, endpoint: str) -> Iterator[str]:
    """A server in front of MLflow's that answers one endpoint as a server without it does.

    MLflow's server is a Flask or FastAPI application, which answers an unknown path with status 404
    and a page of HTML or a line of JSON.
    """

    class Handler(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if endpoint in self.path:
                self.send_response(404)
                content = b"<!doctype html><title>404 Not Found</title>"
            else:
                headers = {"Content-Type": self.headers.get("Content-Type", "")}
                answer = requests.request(
                    self.command, server + self.path, data=body, headers=headers, timeout=60
                )
                self.send_response(answer.status_code)
                content = answer.content
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = _pass

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    front = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=front.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{front.server_port}"
    finally:
        front.shutdown()
        front.server_close()


def test_what_an_older_server_does_not_know_is_reported_once_and_the_rest_arrives(
    tmp_path: Path,
    mlflow_server: MlflowServer,
    runs_by_key: Runs,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with lacking(mlflow_server.uri, "/log-inputs") as uri:
        tracker = Tracker.open(tmp_path / "spool", uri=uri, experiment="older")
        for key in ("a", "a.search"):
            run = tracker.run(key, name=key)
            run.inputs(DATASETS)
            run.metrics({"loss": 1.0})
            run.end()
        tracker.close()
        assert follow(tmp_path / "spool") == SENT
    found = runs_by_key(mlflow_server.uri, "older")
    assert [found[key][0].data.metrics for key in ("a", "a.search")] == [{"loss": 1.0}] * 2
    assert capsys.readouterr().err.count("is older than this client") == 1
