"""Artifacts that clients write by themselves, registries elsewhere, and servers of MLflow 2."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import s3
from field_commands import Ended, examined, nas
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from mlflow_worlds import (
    completed,
    doctor,
    refused,
    run,
    serving,
    settings_of,
    shown,
    without_account,
)

Field = Callable[..., None]
pytestmark = pytest.mark.slow

AS_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
BUCKET = "artifacts-of-clients"
KEYS = {
    "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
    "AWS_DEFAULT_REGION": s3.REGION,
}


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_account(tmp_path, monkeypatch)
    for name in (*KEYS, "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def started(tmp_path: Path, empty_store: Path) -> Iterator[Callable[..., MlflowServer]]:
    with contextlib.ExitStack() as servers:

        def start(**options: Any) -> MlflowServer:
            copied = None if "program" in options else empty_store  # MLflow 2 has other tables
            world = serving(tmp_path / "server", copied=copied, **options)
            return servers.enter_context(world)

        yield start


@pytest.fixture
def home_of_user() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nas-user-"))
    os.chown(folder, 65534, 65534)
    yield folder
    shutil.rmtree(folder)


def as_user(command: str, uri: str, home: Path, *arguments: str) -> Ended:
    """Call a command as a user who may write to `home` only."""
    environment: Mapping[str, str] = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    return nas(
        command,
        *arguments,
        folder=home,
        settings=settings_of(uri, "tracking.experiment=theirs"),
        environment=environment,
        before=AS_USER,
    )


@pytest.mark.skipif(os.getuid() != 0, reason="calls commands as another user")
@pytest.mark.parametrize("is_hidden", [False, True], ids=["missing", "hidden"])
def test_artifacts_in_a_folder_that_only_the_server_has(
    is_hidden: bool,
    started: Callable[..., MlflowServer],
    tmp_path: Path,
    home_of_user: Path,
    field: Field,
) -> None:
    root = tmp_path / "artifacts" if is_hidden else Path("/nas-artifacts-of-the-server")
    server = started(serves_artifacts=False, artifacts=str(root))
    examined = as_user("doctor", server.uri, home_of_user, "--json")
    row = next(row for row in json.loads(examined.out) if row["check"] == "tracking")
    word = f"{row['status']} tracking: {row['detail']} {row['remedy']}"
    ended = as_user("run", server.uri, home_of_user, "--out=r1")
    refused(word, ended, "start the server with --serve-artifacts", home_of_user)
    assert ("Permission denied" if is_hidden else "which is not on this machine") in word
    assert not Path("/nas-artifacts-of-the-server").exists()
    field(
        area="MLflow",
        line="55",
        trouble="--no-serve-artifacts, and an artifact root that is "
        + ("closed to the user" if is_hidden else "only on the server's machine"),
        doctor=shown(word.replace(str(tmp_path), "")),
        run=shown(f"exit 2: {ended.message}".replace(str(tmp_path), "")),
        seconds=round(ended.seconds, 1),
    )


def test_artifacts_that_the_client_writes_to_s3(
    started: Callable[..., MlflowServer],
    s3_server: s3.S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    field: Field,
) -> None:
    s3_server.bucket(BUCKET)
    server = started(serves_artifacts=False, artifacts=f"s3://{BUCKET}/root")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    word, ended = doctor(server.uri), run(server.uri, tmp_path)
    refused(word, ended, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", tmp_path)
    field(
        area="MLflow",
        line="83",
        trouble="artifacts that the client writes to S3, without keys",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    # By the command: MLflow caches its client of S3, with its keys, as long as a process lives.
    word = examined("tracking", folder=tmp_path, settings=settings_of(server.uri))
    assert word.startswith("ok"), word
    ended = run(server.uri, tmp_path)
    outcome = completed(ended, server.uri, tmp_path, "tiny")
    page = s3_server.client().list_objects_v2(Bucket=BUCKET, Prefix="root/")
    keys = [one["Key"] for one in page["Contents"]]
    assert any(key.endswith("result.json") for key in keys)
    assert not any(key.endswith("nas-check") for key in keys)
    field(
        area="MLflow",
        line="83",
        trouble="artifacts that the client writes to S3, with keys",
        doctor=shown(word),
        run=outcome,
    )


def test_a_registry_elsewhere_is_not_used(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: Field
) -> None:
    """A pod has the variables of its namespace; `nas run` removes them for its own steps."""
    client = MlflowClient(mlflow_server.uri, registry_uri=mlflow_server.uri)
    client.create_registered_model("elsewhere")
    other = f"sqlite:///{tmp_path}/registry.db"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", other)
    monkeypatch.setattr("mlflow.tracking._model_registry.utils._registry_uri", None)
    word = doctor(mlflow_server.uri, model="elsewhere")
    assert word.startswith("ok"), word
    assert "nas.checked" in client.get_registered_model("elsewhere").tags
    ended = run(mlflow_server.uri, tmp_path, "registry.model=elsewhere")
    assert "ignored: MLFLOW_REGISTRY_URI" in ended.out
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    assert not (tmp_path / "registry.db").exists()
    field(
        area="MLflow",
        trouble="MLFLOW_REGISTRY_URI names another store",
        doctor=shown(word),
        run=f"{completed(ended, mlflow_server.uri, tmp_path, 'elsewhere')}. ignored: "
        "MLFLOW_REGISTRY_URI; set tracking.uri",
    )


def test_a_server_of_mlflow_2(
    started: Callable[..., MlflowServer], tmp_path: Path, field: Field
) -> None:
    python = os.environ.get("NAS_OLD_MLFLOW")
    if not python:
        pytest.skip("NAS_OLD_MLFLOW names no python with MLflow 2 (.ci/run installs one)")
    server = started(program=(python, "-m", "mlflow"))
    word, ended = doctor(server.uri), run(server.uri, tmp_path)
    refused(word, ended, "the server is older than this client (MLflow 3)", tmp_path)
    field(
        area="MLflow",
        line="13",
        trouble="a server of MLflow 2.22",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )
