"""A run that begins while MLflow is unreachable, on PostgreSQL and S3: its UI shows all of it once.

The server comes up when the search has its first child; then the process that sends the events is
killed (SIGKILL) in the middle of its work. The run ends well, and nothing is missing or twice.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import s3
from mlflow_server import MlflowServer
from services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BUCKET, NAME = "away", "away"
SETTINGS = {
    "method": "random",
    "data.source": "digits",
    "search.budget.children": 3,
    "search.child.epochs": 10,
    "train.epochs": 2,
    "latency.runs": 20,
    "tracking.experiment": NAME,
    "registry.model": NAME,
}
STEPS = {
    "prepare_data",
    "pretrain_controller",
    "search",
    "train_final",
    "profile_latency",
    "train_references",
    "promote",
}


@dataclass(frozen=True)
class Finished:
    """The run after its end, and all of its MLflow runs by name."""

    folder: Path
    result: dict[str, Any]
    stderr: str
    client: Any
    experiment: Any
    runs: dict[str, Any]

    @property
    def pipeline(self) -> Any:
        return self.runs["random on digits"]


@pytest.fixture(scope="module")
def server(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server of its own, which has made its tables and is down."""
    services.s3.client().create_bucket(Bucket=BUCKET)
    server = MlflowServer(
        tmp_path_factory.mktemp("away"),
        store=services.postgres.new_database(),
        artifacts=f"s3://{BUCKET}/artifacts",
        environment={
            "MLFLOW_S3_ENDPOINT_URL": services.s3.url,
            "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
            "AWS_DEFAULT_REGION": s3.REGION,
        },
    )
    server.start()
    server.stop()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def finished(services: Services, server: MlflowServer) -> Finished:
    import mlflow

    out, log = services.home / "away", services.home / "away.stderr"
    environment = {
        **services.environment(),
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    }
    settings = {**SETTINGS, "tracking.uri": server.uri}
    with open(log, "w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "run", f"--out={out}", "--json"]
            + [f"--set={key}={value}" for key, value in settings.items()],
            cwd=services.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        wait_until(lambda: '"event": "child"' in text_of(out / "progress.jsonl"), process)
        server.start()
        # It has begun to send: killed now, between two calls or within one.
        wait_until(lambda: '"id"' in text_of(out / "spool/state.json"), process)
        kill_follower(process)
        assert process.wait(timeout=400) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "does not answer" in log.read_text()
    client = mlflow.MlflowClient(server.uri, server.uri)
    experiment = client.get_experiment_by_name(NAME)
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs), "a run is there twice"
    return Finished(
        folder=out,
        result=json.loads((out / "result.json").read_text()),
        stderr=log.read_text(),
        client=client,
        experiment=experiment,
        runs={run.info.run_name: run for run in runs},
    )


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def wait_until(is_so: Any, process: Any) -> None:
    deadline = time.monotonic() + 240
    while not is_so():
        assert process.poll() is None, "the run has ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_follower(process: Any) -> None:
    (follower,) = (
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "components.tracking.replayer" in child.cmdline()
    )
    os.kill(follower.pid, signal.SIGKILL)


def test_every_run_is_there_once_and_nested(finished: Finished) -> None:
    children = {name for name in finished.runs if name.startswith(("child ", "control "))}
    assert finished.runs.keys() == STEPS | children | {"random on digits"}
    assert len([name for name in children if name.startswith("child ")]) == 3
    assert {run.info.status for run in finished.runs.values()} == {"FINISHED"}
    for names, parent in ((STEPS, "random on digits"), (children, "search")):
        expected = finished.runs[parent].info.run_id
        assert {finished.runs[one].data.tags["mlflow.parentRunId"] for one in names} == {expected}


def test_every_point_of_every_metric_is_there_once(finished: Finished) -> None:
    for name, run in finished.runs.items():
        for metric in run.data.metrics:
            history = finished.client.get_metric_history(run.info.run_id, metric)
            steps = Counter(point.step for point in history)
            assert set(steps.values()) == {1}, (name, metric)


def test_inputs_are_those_of_the_run_and_of_each_step(finished: Finished) -> None:
    def contexts(name: str) -> list[str]:
        inputs = finished.runs[name].inputs.dataset_inputs
        return sorted(tag.value for one in inputs for tag in one.tags)

    assert contexts("random on digits") == ["test", "train", "validation"]
    assert contexts("search") == ["train", "validation"]
    assert contexts("promote") == ["test"]
    datasets = [one.dataset for one in finished.pipeline.inputs.dataset_inputs]
    assert {one.name for one in datasets} == {"digits"}
    profile = json.loads(datasets[0].profile)
    assert profile["data_sha256"] == finished.result["data_sha256"]


def test_source_description_and_kind_of_experiment(finished: Finished) -> None:
    tags = finished.pipeline.data.tags
    assert tags["mlflow.source.name"] == "nas run random"
    assert tags["mlflow.source.type"] == "LOCAL"
    assert finished.result["verdict"]["statement"] in tags["mlflow.note.content"]
    name, _, version = finished.result["model_uri"].removeprefix("models:/").rpartition("/")
    assert f"(#/models/{name}/versions/{version})" in tags["mlflow.note.content"]
    for step in STEPS:
        assert f"Step `{step}`" in finished.runs[step].data.tags["mlflow.note.content"]
    assert finished.experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_system_metrics_of_the_outage_are_there(finished: Finished) -> None:
    search = finished.runs["search"]
    history = finished.client.get_metric_history(
        search.info.run_id, "system/cpu_utilization_percentage"
    )
    assert history[0].timestamp < search.info.start_time + 15_000
    child = finished.runs[next(name for name in finished.runs if name.startswith("child "))]
    assert child.info.start_time > search.info.start_time


def test_children_are_found_by_parameters_and_metrics(finished: Finished) -> None:
    best = finished.result["search_valid_accuracy"]
    found = finished.client.search_runs(
        [finished.experiment.experiment_id],
        f"params.arm = 'method' and metrics.valid_accuracy >= {best - 1e-9}",
    )
    assert found
    assert "1" in {run.data.tags.get("nas.rank") for run in found}


def test_tables_and_figures_open_in_the_ui(finished: Finished, tmp_path: Path) -> None:
    import mlflow

    client, run_id = finished.client, finished.pipeline.info.run_id
    mlflow.set_tracking_uri(client.tracking_uri)
    search = json.loads((finished.folder / "state/search/search_result.json").read_text())
    for run, name, count in (
        ("search", "method_children.json", len(search["arm"]["children"])),
        ("search", "control_children.json", len(search["control"]["children"])),
        ("random on digits", "per_class.json", 10),
    ):
        one = finished.runs[run].info.run_id
        table = client.load_table(finished.experiment.experiment_id, name, [one])
        assert len(table) == count, name
        listed = json.loads(finished.runs[run].data.tags["mlflow.loggedArtifacts"])
        assert {"path": name, "type": "table"} in listed
    figures = sorted(one.path for one in client.list_artifacts(run_id, "figures"))
    names = ("confusion_matrix", "cost_accuracy", "search_curve")
    assert figures == [f"figures/{name}.png" for name in names]
    for path in figures:
        image = Path(client.download_artifacts(run_id, path, str(tmp_path)))
        assert image.read_bytes().startswith(b"\x89PNG")
    assert [one.path for one in client.list_artifacts(run_id, "report")] == ["report/report.html"]


def test_metrics_of_the_model_name_the_data_on_which_they_were_measured(
    finished: Finished,
) -> None:
    (logged,) = finished.client.search_logged_models([finished.experiment.experiment_id])
    measured = {one.key: one for one in logged.metrics}
    (test,) = (
        one.dataset
        for one in finished.pipeline.inputs.dataset_inputs
        if one.tags[0].value == "test"
    )
    accuracy = measured["test_accuracy"]
    assert accuracy.value == pytest.approx(finished.result["test_accuracy"])
    assert (accuracy.dataset_name, accuracy.dataset_digest) == (test.name, test.digest)
    assert measured["latency_p50_ms"].dataset_name is None
