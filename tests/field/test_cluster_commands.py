"""Commands that give Kubeflow a pipeline: sources, images, schedules and tokens."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from field_cli import CLUSTER, nas, refused
from kfp_server import KfpServer

from components.config.schema import parse
from pipelines.doctor.service_checks import check_data

pytestmark = pytest.mark.usefixtures("folder")

Field = Callable[..., None]
SUBMIT = ("submit", *CLUSTER)
SCHEDULE = ("schedule", "create", *CLUSTER, "--name=weekly", "--cron=0 0 3 * * 1")


@pytest.fixture
def kfp(offline_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    """A stand-in for the server of Kubeflow Pipelines, by its published contract."""
    contract = offline_data.parent / "kfp" / "kfp_api_v2beta1.swagger.json"
    if not contract.is_file():
        pytest.skip(f"there is no contract of KFP next to NAS_TEST_DATA ({contract.name})")
    for name in [name for name in os.environ if name.startswith(("KF_PIPELINES", "NAS_KFP"))]:
        monkeypatch.delenv(name)
    server = KfpServer(contract)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    yield server
    server.close()
    assert server.violations == []


@pytest.fixture
def commands(kfp: KfpServer, monkeypatch: pytest.MonkeyPatch) -> tuple[tuple[str, ...], ...]:
    """The commands that give Kubeflow a pipeline, with a stand-in for its server."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return (("compile", *CLUSTER), SUBMIT, SCHEDULE)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("foo", "unknown source; use digits, cifar10,"),
        ("imagefolder:s3://My_Bucket/x", "is no S3 URI; write s3://BUCKET/KEY"),
        ("s3://b/x.npz", "does not say what is there; write 'npz:s3://b/x.npz'"),
        ("npz:new.npz", "write npz:s3://BUCKET/KEY (--no-check where the image has this path)"),
    ],
)
def test_a_source_that_no_pod_can_read(
    field: Field, commands: tuple[tuple[str, ...], ...], kfp: KfpServer, source: str, message: str
) -> None:
    for command in commands:
        shown = refused(*command, "--data", source).partition("data.source")[2]
        assert shown.startswith(f" = {source}: ")
        assert message in shown
    assert (kfp.schedules, kfp.sent("POST", "/runs")) == ({}, [])
    finding = check_data(parse({"data": {"source": source}}))
    assert finding.state == "problem"
    field(
        area="configuration",
        line="9",
        trouble=f"{source} for a cluster",
        doctor=f"problem data: {finding.advice}"[:399],
        run="nas compile, submit, schedule create: exit 2: " + shown.partition(": ")[2][:340],
    )


@pytest.mark.parametrize(
    "image", ["", "reg/nas@sha256:", "reg/nas@sha256:zz", "reg/nas: 1", "r/i:1\r", "r/i:latest"]
)
def test_an_image_of_an_empty_or_cut_variable(field: Field, kfp: KfpServer, image: str) -> None:
    shown = refused("compile", "--image", image)
    assert shown.startswith("--image")
    assert refused("submit", "--image", image, CLUSTER[1]).startswith("--image")
    assert kfp.sent("POST", "/runs") == []
    field(
        area="configuration",
        line="87" if "\r" in image else "61",
        trouble=f"--image {image!r}",
        run=f"nas compile, submit: exit 2: {shown}",
    )


def test_a_pipeline_on_standard_output(field: Field, folder: Path) -> None:
    status, out, err = nas("compile", *CLUSTER, "-o", "-")
    assert (status, err) == (0, "")
    assert out.startswith("components:")
    assert list(folder.iterdir()) == []
    field(
        area="configuration",
        line="62",
        trouble="nas compile -o -",
        run="exit 0, the pipeline on standard output",
    )


@pytest.mark.parametrize(
    ("line", "option", "value", "message"),
    [
        ("63", "--cron", "0 3 * * 1", "has five fields; KFP wants six, seconds first"),
        ("64", "--cron", "0 */90 * * * *", "starts at minute 0 alone, and not every 90; write 0"),
        ("64b", "--cron", "0 0 */36 * * *", "starts at hour 0 alone, and not every 36; write 0"),
        ("67", "--name", "", "is empty; give a value, or omit it"),
        ("67", "--name", " ", "is empty; give a value, or omit it"),
        ("87", "--host", "http://h\r", "holds a space or a control character; remove it"),
    ],
)
def test_an_option_of_a_schedule(
    field: Field, kfp: KfpServer, line: str, option: str, value: str, message: str
) -> None:
    shown = refused(*SCHEDULE, f"{option}={value}")
    assert message in shown
    assert kfp.schedules == {}
    field(
        area="configuration",
        line=line,
        trouble=f"nas schedule create {option} {value!r}",
        run=f"exit 2: {shown}",
    )


def test_a_token_with_the_word_before_it(
    field: Field, kfp: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.token = "tok-123456789"
    monkeypatch.setenv("NAS_KFP_TOKEN", "Bearer tok-123456789\n")
    status, _, err = nas("schedule", "list")
    assert status == 0, err
    field(area="configuration", line="65", trouble="NAS_KFP_TOKEN='Bearer tok\\n'", run="exit 0")
