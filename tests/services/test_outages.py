"""A search while the servers around it fail: MLflow is away for a minute, S3 answers errors.

One run is made; each test looks at one side of it. The tracking server goes down when the search
has its first child and is started again a minute later; then the S3 store, where the images and
MLflow's artifacts lie, answers every request with an error for at least half a minute, in which the
search ends.
"""

import io
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3
from mlflow_server import Account, MlflowServer
from PIL import Image
from services import DATA, Services, planted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BUCKET, NAME = "outage", "outage"
AWAY_S, ERRORS_S = 60.0, 30.0
SEARCH_S = 80  # ends while S3 answers errors
SETTINGS = {
    "method": "random",
    "seed": 5,
    # So large when decoded that they are read from S3, through the copies on disk, all along.
    "data.image_size": 64,
    "data.memory_limit_mb": 1,
    "data.decoded_cache_mb": 0,
    "search.space.num_stages": 1,
    "search.budget.seconds": SEARCH_S,
    "search.control": "false",
    "search.child.epochs": 1,
    "search.child.max_steps": 4,
    "train.epochs": 2,
    "train.max_steps": 8,
    "latency.runs": 20,
    "latency.warmup_runs": 2,
    "registry.model": NAME,
    "tracking.experiment": NAME,
}


@dataclass(frozen=True)
class Survived:
    """A run that went through it.

    Attributes:
        num_failed: requests that S3 answered with an error.
        left_s: how long the search went on after S3 began to answer errors.
    """

    folder: Path
    stderr: str
    result: dict[str, Any]
    search: dict[str, Any]
    num_failed: int
    left_s: float
    client: Any
    objects: dict[str, int]


@pytest.fixture(scope="module")
def images(services: Services) -> str:
    """A few hundred handwritten digits as PNG files in S3."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    client = services.s3.client()
    for number in range(400):
        file = io.BytesIO()
        pixels = np.rint(bunch.images[number] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(file, "png")
        key = f"digits/{bunch.target[number]}/{number:04d}.png"
        client.put_object(Bucket=DATA, Key=key, Body=file.getvalue())
    return f"imagefolder:s3://{DATA}/digits"


@pytest.fixture(scope="module")
def relay(services: Services) -> Iterator[s3.Relay]:
    relay = s3.Relay(services.s3.port)
    yield relay
    relay.close()


@pytest.fixture(scope="module")
def server(
    services: Services, relay: s3.Relay, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """A tracking server of its own, which keeps artifacts in S3 through the relay."""
    services.s3.client().create_bucket(Bucket=BUCKET)
    server = MlflowServer(
        tmp_path_factory.mktemp("outage"),
        store=services.postgres.new_database(),
        artifacts=f"s3://{BUCKET}/artifacts",
        admin=Account("admin", planted()),
        environment={
            "MLFLOW_S3_ENDPOINT_URL": relay.url,
            "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
            "AWS_DEFAULT_REGION": s3.REGION,
        },
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def survived(
    services: Services, server: MlflowServer, relay: s3.Relay, images: str
) -> Iterator[Survived]:
    import mlflow

    out = services.home / "outage"
    settings = {**SETTINGS, "data.source": images, "tracking.uri": server.uri}
    assert server.admin is not None
    account = server.admin.environment()
    with open(services.home / "outage.stderr", "w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "run", f"--out={out}", "--json"]
            + [f"--set={key}={value}" for key, value in settings.items()],
            cwd=services.home,
            env={**services.environment(), **account, "AWS_ENDPOINT_URL": relay.url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            wait_for(out, process, event="child")
            server.stop()
            time.sleep(AWAY_S)
            relay.mode = "errors"
            since_s = time.time()
            server.start()
            # Also when the server took its time: it has to meet the errors.
            time.sleep(max(ERRORS_S + since_s - time.time(), 15))
            relay.mode = "pass"
            status = process.wait(timeout=180)
        finally:
            process.kill()
            process.wait()
    said = (services.home / "outage.stderr").read_text()
    assert status == 0, said
    ended_s = wait_for(out, process, event="finished")["time"]
    objects = services.s3.client().list_objects_v2(Bucket=BUCKET)["Contents"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in account.items():
            patch.setenv(name, value)
        yield Survived(
            folder=out,
            stderr=said,
            result=json.loads((out / "result.json").read_text()),
            search=json.loads((out / "state/search/search_result.json").read_text()),
            num_failed=relay.num_failed,
            left_s=ended_s - since_s,
            client=mlflow.MlflowClient(server.uri, server.uri),
            objects={one["Key"]: one["Size"] for one in objects},
        )


def wait_for(out: Path, process: Any, *, event: str, step: str = "search") -> dict[str, Any]:
    """The first event of that kind in the run's progress."""
    path, deadline = out / "progress.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = path.read_text().splitlines() if path.exists() else []
        for line in map(json.loads, lines):
            if (line["event"], line["step"]) == (event, step):
                found: dict[str, Any] = line
                return found
        assert process.poll() in (None, 0), "the run has failed"
        time.sleep(0.1)
    raise AssertionError(f"no event {event} of {step}")


def runs(survived: Survived) -> list[Any]:
    experiment = survived.client.get_experiment_by_name(NAME).experiment_id
    return list(survived.client.search_runs([experiment]))


def run_named(survived: Survived, name: str) -> Any:
    (run,) = (run for run in runs(survived) if run.info.run_name == name)
    return run


def test_both_outages_reached_the_search(survived: Survived) -> None:
    assert "the tracking store is unreachable" in survived.stderr
    assert "the tracking store is back" in survived.stderr
    assert survived.num_failed > 0
    assert 0 < survived.left_s < ERRORS_S, "the search ended while S3 answered errors"


def test_the_search_waits_for_nothing(survived: Survived) -> None:
    step = survived.search["step"]
    assert step["tracking_seconds"] < 0.01 * step["seconds"]
    # Whoever waited for a server would wait for seconds, between children or within one.
    children = survived.search["arm"]["children"]
    ended, started = [[child[key] for child in children] for key in ("ended_s", "started_s")]
    assert max(b - a for a, b in zip(ended, started[1:], strict=False)) < 2
    assert max(b - a for a, b in zip(started, ended, strict=True)) < 10
    assert len(children) > 20


def test_every_metric_is_there_once(survived: Survived) -> None:
    *children, last = survived.search["arm"]["children"]
    if last["scores"] is None:  # a busy machine trained it for longer than the others
        assert last["failure"] == f"cut off: the budget seconds={SEARCH_S} was spent"
    else:
        children.append(last)
    children = [child for child in children if child["status"] != "rejected"]
    search = run_named(survived, "search")
    points = survived.client.get_metric_history(search.info.run_id, "search/method/valid_accuracy")
    assert [(point.step, point.value) for point in points] == [
        (child["number"], pytest.approx(child["scores"]["valid_accuracy"])) for child in children
    ]
    for run in runs(survived):
        for name in run.data.metrics:
            history = survived.client.get_metric_history(run.info.run_id, name)
            steps = Counter(point.step for point in history)
            assert set(steps.values()) == {1}, (run.info.run_name, name)


def test_every_run_is_there_once_and_has_ended_well(survived: Survived) -> None:
    found = runs(survived)
    expected = 1 + 7 + 3  # pipeline, steps, the best children
    assert len({run.data.tags["nas.run_key"] for run in found}) == len(found) == expected
    assert {run.info.status for run in found} == {"FINISHED"}


def test_artifacts_and_the_model_are_there_once(survived: Survived, tmp_path: Path) -> None:
    names = Counter(key.rpartition("/")[2] for key in survived.objects)
    for name in ("method_children.json", "dataset.json", "result.json", "report.html", "model.pt2"):
        assert names[name] == 1, (name, sorted(survived.objects))
    search = run_named(survived, "search").info.run_id
    table = survived.client.download_artifacts(search, "method_children.json", str(tmp_path))
    content = json.loads(Path(table).read_text())
    status = content["columns"].index("status")
    trained = [row for row in content["data"] if row[status] != "rejected"]
    assert len(trained) == survived.result["num_children"]
    (version,) = survived.client.search_model_versions(f"name='{NAME}'")
    aliases = survived.client.get_registered_model(NAME).aliases
    assert {name: str(at) for name, at in aliases.items()} == {"champion": version.version}
    from components.tracking.reading import num_unsent

    assert num_unsent(survived.folder / "spool") == 0
    assert not (survived.folder / "spool" / "rejected.jsonl").exists()


def test_a_champion_that_cannot_be_fetched_just_now_is_not_called_bad(
    survived: Survived, server: MlflowServer, relay: s3.Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage decides nothing; the step tries again."""
    import torch
    from mlflow.exceptions import MlflowException

    from components.config.settings import PromoteConfig
    from components.registry import model_registry
    from components.registry.promotion import Candidate, promote
    from components.registry.test_sets import ImageTestSet

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    first = model_registry.version_of(NAME, "1")
    (version,) = survived.client.search_model_versions(f"name='{NAME}'")
    second = survived.client.create_model_version(
        NAME,
        version.source,
        run_id=version.run_id,
        model_id=version.source.removeprefix("models:/"),
    )
    relay.mode = "errors"
    try:
        with pytest.raises(MlflowException):
            promote(
                Candidate(
                    model_registry.version_of(NAME, second.version), np.ones(2, bool), 1, 1.0
                ),
                uri=server.uri,
                test_set=ImageTestSet(
                    lambda: [torch.zeros(2, 1, 64, 64)], torch.zeros(2, dtype=torch.long)
                ),
                config=PromoteConfig(),
                rng=np.random.default_rng(0),
            )
    finally:
        relay.mode = "pass"
    aliases = survived.client.get_registered_model(NAME).aliases
    assert {name: str(at) for name, at in aliases.items()} == {"champion": first.version}
