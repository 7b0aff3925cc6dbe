"""`nas compile`, `nas submit` and `nas schedule create` check the data source."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from kfp_commands import IMAGE, SCHEDULE, SEARCH, TRACKED, nas
from kfp_server import KfpServer
from s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server
from unkind_s3 import UnkindRelay

from components.config.schema import parse
from nascore.errors import Problem
from pipelines.kubeflow.data_checks import object_problems, path_problems

COMPILE = ("compile", IMAGE, TRACKED, "--set=method=random")


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    s3_server.bucket("images")
    client = s3_server.client()
    for key in ("x.npz", "photos/a/1.png", "photos.zip"):
        client.put_object(Bucket="images", Key=key, Body=b"content")
    return s3_server


@pytest.fixture
def without_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")


@pytest.fixture
def account(
    server: S3Server, without_account: None, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return monkeypatch


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Result]:
    return lambda *arguments: nas(*COMPILE, "--out", str(tmp_path / "p.yaml"), *arguments)


def asked(source: str, **cluster: object) -> tuple[list[Problem], list[str]]:
    """Return the problems and warnings of the check of the object store."""
    warnings: list[str] = []
    config = parse({"data": {"source": source}, "cluster": cluster})
    return list(object_problems(config, warnings.append)), warnings


@pytest.mark.usefixtures("without_account")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("foo", "unknown source"),
        ("imagefolder:s3://My_Bucket/x", "is no S3 URI; write s3://BUCKET/KEY"),
    ],
)
def test_a_source_that_no_pod_can_read_is_not_compiled(
    compiled: Callable[..., Result], tmp_path: Path, source: str, message: str
) -> None:
    result = compiled("--data", source)
    assert result.exit_code == 2
    assert f"data.source = {source}: " in result.stderr
    assert message in result.stderr
    assert not (tmp_path / "p.yaml").exists()


@pytest.mark.usefixtures("without_account")
@pytest.mark.parametrize("source", ["npz:new.npz", "npz:~/new.npz", "imagefolder:/data/none"])
def test_a_path_is_refused_unless_it_is_not_checked(
    compiled: Callable[..., Result], tmp_path: Path, source: str
) -> None:
    kind = source.partition(":")[0]
    result = compiled("--data", source)
    assert result.exit_code == 2
    assert f"data.source = {source}: pods do not see the files of" in result.stderr
    assert f"write {kind}:s3://BUCKET/KEY (--no-check where the image has this" in result.stderr
    assert not (tmp_path / "p.yaml").exists()
    result = compiled("--data", source, "--no-check")
    assert result.exit_code == 0
    assert "pods" not in result.stderr


@pytest.mark.usefixtures("without_account")
def test_a_path_that_the_nodes_may_have_is_compiled_with_a_warning(
    compiled: Callable[..., Result], tmp_path: Path
) -> None:
    source = f"npz:{tmp_path}/images.npz"
    (tmp_path / "images.npz").touch()
    result = compiled("--data", source)
    assert result.exit_code == 0
    assert f"warning: data.source = {source}: pods do not see the files of" in result.stderr


def test_a_table_of_labels_on_this_machine() -> None:
    data = {"source": "imagefolder:s3://images/photos", "labels": "/home/me/labels.csv"}
    (problem,) = path_problems(parse({"data": data}))
    assert problem.key == "data.labels"
    assert list(path_problems(parse({"data": {**data, "labels": "labels.csv"}}))) == []
    volume = {"state": "pvc:nas"}
    below = {**data, "labels": "/var/lib/nas/labels.csv"}
    assert list(path_problems(parse({"data": below, "cluster": volume}))) == []


def test_weights_and_a_teacher_on_this_machine() -> None:
    data = {"source": "imagefolder:s3://images/photos"}
    here = {"weights": "resnet18.pth", "teacher": "./final"}
    problems = list(path_problems(parse({"data": data, "training": here})))
    assert [one.key for one in problems] == ["training.weights", "training.teacher"]
    assert "copy them to an object store and write s3://BUCKET/KEY" in problems[0].message
    there = {"weights": "s3://models/resnet18.pth", "teacher": "flowers/3"}
    assert list(path_problems(parse({"data": data, "training": there}))) == []
    on_volume = {"weights": "/var/lib/nas/resnet18.pth"}
    volume = {"state": "pvc:nas"}
    config = parse({"data": data, "training": on_volume, "cluster": volume})
    assert list(path_problems(config)) == []


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("npz:s3://nowhere/x.npz", "there is no such bucket"),
        ("npz:s3://images/y.npz", "there is no such object"),
        ("imagefolder:s3://nowhere/photos", "there is no such bucket"),
        ("imagefolder:s3://images/photo", "there are no objects below photo/"),
        ("imagefolder:s3://images/other.zip", "there is no such object"),
    ],
)
def test_data_that_are_not_in_the_store(source: str, message: str) -> None:
    (problem,), warnings = asked(source)
    assert (problem.key, problem.value) == ("data.source", source)
    assert message in problem.message
    assert "--no-check where only the cluster reaches the store" in problem.message
    assert warnings == []


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    "source",
    [
        "npz:s3://images/x.npz",
        "imagefolder:s3://images/photos",
        "imagefolder:s3://images/photos/",
        "imagefolder:s3://images",
        "imagefolder:s3://images/photos.zip",
        "digits",
    ],
)
def test_data_that_are_in_the_store(source: str) -> None:
    assert asked(source) == ([], [])


def test_what_is_not_certain_is_a_warning(account: pytest.MonkeyPatch) -> None:
    source = "npz:s3://images/y.npz"
    account.setenv("AWS_ACCESS_KEY_ID", "unknown")
    problems, (warning,) = asked(source)
    assert problems == []
    assert "data.source was not checked (s3://images/y.npz): the server does not know" in warning
    account.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    problems, (warning,) = asked(source)
    assert problems == []
    assert "data.source was not checked (s3://images/y.npz): " in warning
    account.delenv("AWS_ENDPOINT_URL")
    problems, (warning,) = asked(source, config_maps={"AWS_ENDPOINT_URL": "nas/url"})
    assert problems == []
    assert "the pods have AWS_ENDPOINT_URL; set it here to check the data" in warning


@pytest.mark.parametrize("fault", ["console", "firewall", "log-in", "tls"])
def test_an_address_of_another_server_is_a_problem(
    server: S3Server, account: pytest.MonkeyPatch, fault: str
) -> None:
    relay = UnkindRelay(server.port)
    relay.fault = fault
    account.setenv("AWS_ENDPOINT_URL", relay.url)
    (problem,), warnings = asked("npz:s3://images/x.npz")
    assert "correct AWS_ENDPOINT_URL" in problem.message or "https://" in problem.message
    assert "--no-check where only the cluster reaches the store" in problem.message
    assert warnings == []
    relay.close()


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("command", [SEARCH, SCHEDULE, COMPILE])
def test_each_command_asks_the_store(
    kfp: KfpServer, tmp_path: Path, command: tuple[str, ...]
) -> None:
    out = ("--out", str(tmp_path / "p.yaml")) if command is COMPILE else ()
    result = nas(*command, *out, "--data=npz:s3://nowhere/x.npz")
    assert result.exit_code == 2
    assert "data.source = npz:s3://nowhere/x.npz: there is no such bucket" in result.stderr
    assert (kfp.schedules, kfp.sent("POST", "/runs")) == ({}, [])
    assert nas(*command, *out, "--data=npz:s3://nowhere/x.npz", "--no-check").exit_code == 0
