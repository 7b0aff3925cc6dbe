"""S3-compatible stores as they are found in the field: what `nas doctor` and `nas run` say.

Real SeaweedFS behind a relay that is as unkind as stores, proxies and firewalls that people report
(`unkind_s3` has the evidence). Both commands are called as a user calls them.
"""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server
from unkind_s3 import UnkindRelay

from components.object_store.connection import make_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = {
    "method": "random",
    "seed": 3,
    "search.space.num_stages": 1,
    "search.budget.children": 2,
    "search.child.epochs": 1,
    "train.epochs": 1,
    "latency.runs": 20,
    "latency.warmup_runs": 1,
    "data.source": "npz:s3://data/field.npz",
}
LIMIT_S = 15
EXPORT = {"promote.export_to": "s3://data/handed-over"}
Ask = Callable[..., "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the two commands said.

    Attributes:
        doctor: rows of `nas doctor --json` by their check.
        seconds: of the run, from its start to its end.
        out: folder of the run.
    """

    doctor: dict[str, dict[str, str]]
    status: int
    stderr: str
    seconds: float
    out: Path

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "result.json").read_text())
        return found

    def row(self, check: str) -> str:
        """Status and message of a check, short enough for the table."""
        found = self.doctor[check]
        return f"{found['status']} {check}: {found['remedy'] or found['detail']}"[:380]

    @property
    def message(self) -> str:
        """Exit status and the last message, short enough for the table."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        text = " ".join(line.strip() for line in lines[-3:])
        return f"exit {self.status}: {text}"[:380]


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    s3_server.bucket("data")
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = (rng.integers(0, 120, (240, 8, 8)) + 60 * labels[:, None, None]).astype(np.uint8)
    np.savez(file, x_train=images, y_train=labels)
    s3_server.client().put_object(Bucket="data", Key="field.npz", Body=file.getvalue())
    return s3_server


@pytest.fixture
def relay(server: S3Server) -> Iterator[UnkindRelay]:
    between = UnkindRelay(server.port)
    yield between
    between.close()


@pytest.fixture
def ask(relay: UnkindRelay, tmp_path: Path) -> Ask:
    """`ask({setting: value}, VARIABLE=value)`: doctor, then the run, both at the relay."""

    def call(changed: dict[str, Any] | None = None, **variables: str | None) -> Seen:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": relay.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "aws-config"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "1000",
        }
        environment |= {name: value for name, value in variables.items() if value is not None}
        for name in [name for name, value in variables.items() if value is None]:
            environment.pop(name, None)
        tracked = {"tracking.uri": f"sqlite:///{tmp_path}/mlflow.db"}
        together = {**SETTINGS, **tracked, **(changed or {})}
        settings = [f"--set={key}={value}" for key, value in together.items()]

        def nas(*arguments: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                [sys.executable, "-m", "pipelines.cli", *arguments, *settings],
                env=environment,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )

        examined = nas("doctor", "--json")
        start = time.monotonic()
        done = nas("run", "--out=run")
        seconds = time.monotonic() - start
        said = examined.stdout + examined.stderr + done.stdout + done.stderr
        assert SECRET_KEY not in said
        assert "Traceback" not in said
        assert examined.stdout, examined.stderr
        rows = {row["check"]: row for row in json.loads(examined.stdout)}
        return Seen(rows, done.returncode, done.stderr, seconds, tmp_path / "run")

    return call


def refused(seen: Seen, check: str, *words: str) -> None:
    """Check that both commands name the cause before anything is trained."""
    assert seen.status == 2, seen.stderr
    assert seen.doctor[check]["status"] == "problem", seen.doctor[check]
    for word in words:
        assert word in seen.stderr
        assert word in seen.doctor[check]["remedy"]
    assert not seen.out.exists()
    assert seen.seconds < LIMIT_S


# --- the address -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "line", "trouble", "words"),
    [
        ("console", "30", "MinIO's console (a page with status 200)", ("sends a web page",)),
        ("firewall", "36", "a firewall answers 403 with HTML", ("a web page", "403", "firewall")),
        (
            "circle",
            "31",
            "the store redirects to itself",
            ("redirects to", "does not answer as S3"),
        ),
        ("log-in", "", "the store redirects to a log-in page", ("https://login.example.org/",)),
        ("skew", "", "the clock of the machine is wrong", ("the clock of this machine",)),
        ("tls", "27", "http:// for a store that speaks https", ("write https:// in AWS_ENDPOINT",)),
        ("region", "", "301 of another region", ("another region", "AWS_REGION")),
    ],
)
def test_answers_that_are_none_of_a_store(
    relay: UnkindRelay,
    ask: Ask,
    field: Callable[..., None],
    fault: str,
    line: str,
    trouble: str,
    words: tuple[str, ...],
) -> None:
    relay.fault = fault
    seen = ask(EXPORT)
    refused(seen, "data", *words)
    assert seen.doctor["export"]["status"] == "problem"
    assert "s3cr" not in seen.stderr
    field(
        area="S3",
        line=line,
        trouble=trouble,
        doctor=seen.row("data"),
        run=seen.message,
        seconds=round(seen.seconds, 1),
    )


@pytest.mark.parametrize(
    ("line", "trouble", "variables", "words"),
    [
        (
            "27",
            "https:// for a store that speaks http",
            {"AWS_ENDPOINT_URL": "https://{server}"},
            ("write http:// in AWS_ENDPOINT_URL",),
        ),
        (
            "26",
            "an endpoint without a scheme",
            {"AWS_ENDPOINT_URL": "{place}"},
            ("is not a URL; write http://HOST:PORT",),
        ),
        (
            "26",
            "an endpoint with a path",
            {"AWS_ENDPOINT_URL": "http://{place}/minio"},
            ("AWS_ENDPOINT_URL",),
        ),
        (
            "28",
            "AWS_PROFILE names no profile",
            {"AWS_PROFILE": "production"},
            ("AWS_PROFILE names a profile", "production"),
        ),
        (
            "28",
            "no credentials",
            {"AWS_SECRET_ACCESS_KEY": None},
            ("no complete credentials",),
        ),
    ],
    ids=["https", "no scheme", "path", "profile", "keys"],
)
def test_an_address_or_account_that_is_wrong(
    server: S3Server,
    relay: UnkindRelay,
    ask: Ask,
    field: Callable[..., None],
    line: str,
    trouble: str,
    variables: dict[str, str | None],
    words: tuple[str, ...],
) -> None:
    places = {"place": relay.url[len("http://") :], "server": server.url[len("http://") :]}
    given = {
        name: None if value is None else value.format(**places) for name, value in variables.items()
    }
    seen = ask({}, **given)
    refused(seen, "data", *words)
    field(
        area="S3",
        line=line,
        trouble=trouble,
        doctor=seen.row("data"),
        run=seen.message,
        seconds=round(seen.seconds, 1),
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("npz:gs://data/x.npz", ("gs:// is not supported", "S3 API", "npz:s3://data/x.npz")),
        ("npz:s3a://data/x.npz", ("s3a:// is not supported", "write npz:s3://data/x.npz")),
        ("npz:S3://data/x.npz", ("S3:// is not supported", "write npz:s3://data/x.npz")),
        ("npz:file:///x.npz", ("file:// is not supported", "write npz:/x.npz")),
        ("npz:https://h.example.org/x.npz", ("https:// is not supported", "copy the files")),
        ("npz:wasbs://c@a.blob.core.windows.net/x.npz", ("copy the files", "s3://BUCKET/KEY")),
    ],
)
def test_other_schemes_are_named(
    ask: Ask, field: Callable[..., None], source: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(AssertionError) as caught:  # doctor has no rows of a wrong configuration
        ask({"data.source": source})
    for word in words:
        assert word in str(caught.value)
    message = next(line for line in str(caught.value).splitlines() if "data.source" in line)
    field(area="configuration", line="25", trouble=source, run=f"exit 2: {message.strip()}")


def test_a_store_with_a_host_name_for_each_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: Callable[..., None]
) -> None:
    """The address alone: a name for each bucket needs a name server."""
    (tmp_path / "config").write_text("[default]\ns3 =\n    addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://oss-cn-hangzhou.example.com")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    where = {"Bucket": "data", "Key": "k"}
    url = make_client().generate_presigned_url("get_object", Params=where).partition("?")[0]
    assert url == "https://data.oss-cn-hangzhou.example.com/k"
    field(
        area="S3",
        line="34",
        trouble="a store that takes virtual-hosted addresses only (addressing_style = virtual)",
        run=f"requests go to {url}",
    )


def test_a_folder_of_copies_that_cannot_be_written(
    ask: Ask, tmp_path: Path, field: Callable[..., None]
) -> None:
    (tmp_path / "file").touch()
    seen = ask({}, NAS_CACHE_DIR=str(tmp_path / "file" / "copies"))
    assert seen.status == 2, seen.stderr
    assert "NAS_CACHE_DIR" in seen.stderr
    assert "name another folder" in seen.stderr
    assert seen.doctor["data"]["status"] == "problem"
    assert not seen.out.exists()
    field(
        area="S3",
        line="73",
        trouble="NAS_CACHE_DIR cannot be written",
        doctor=seen.row("data"),
        run=seen.message,
        seconds=round(seen.seconds, 1),
    )


# --- what a store does not do ------------------------------------------------------------------


def test_a_store_that_refuses_checksums(
    relay: UnkindRelay, ask: Ask, field: Callable[..., None]
) -> None:
    relay.fault = "no checksums"
    seen = ask(EXPORT)
    refused(seen, "export", "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required")
    field(
        area="S3",
        line="33",
        trouble="the store refuses the checksums of boto3 with SignatureDoesNotMatch",
        doctor=seen.row("export"),
        run=seen.message,
        seconds=round(seen.seconds, 1),
    )


def test_requester_pays(relay: UnkindRelay, ask: Ask, field: Callable[..., None]) -> None:
    relay.fault = "requester pays"
    seen = ask({})
    refused(seen, "data", "s3.request_payer=requester")
    field(
        area="S3",
        line="35",
        trouble="a requester-pays bucket without s3.request_payer",
        doctor=seen.row("data"),
        run=seen.message,
        seconds=round(seen.seconds, 1),
    )


@pytest.mark.parametrize(
    ("fault", "line", "trouble", "variables", "settings"),
    [
        ("501 to conditions", "32", "501 to writes with If-None-Match", {}, EXPORT),
        ("ignore conditions", "", "the store ignores If-None-Match and If-Match", {}, EXPORT),
        (
            "no checksums",
            "33",
            "the store refuses checksums; AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
            {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"},
            EXPORT,
        ),
        (
            "requester pays",
            "35",
            "a requester-pays bucket, s3.request_payer=requester",
            {},
            {"s3.request_payer": "requester"},
        ),
        (
            "",
            "29, 87",
            "line breaks around the keys and the endpoint",
            {"AWS_ACCESS_KEY_ID": f"{ACCESS_KEY}\n", "AWS_SECRET_ACCESS_KEY": f"{SECRET_KEY}\r\n"},
            EXPORT,
        ),
    ],
    ids=["501", "ignored", "checksums", "payer", "line breaks"],
)
def test_a_run_that_ends_well(
    relay: UnkindRelay,
    ask: Ask,
    field: Callable[..., None],
    fault: str,
    line: str,
    trouble: str,
    variables: dict[str, str],
    settings: dict[str, str],
) -> None:
    relay.fault = fault
    seen = ask(settings, **variables)
    assert seen.status == 0, seen.stderr
    is_weak = fault.endswith("conditions")
    assert seen.doctor["data"]["status"] == "ok"
    assert seen.doctor["export"]["status"] == ("warning" if is_weak else "ok")
    warnings = seen.result["store_warnings"]
    assert len(warnings) == is_weak
    log = (seen.out / "pipeline.log").read_text()
    if is_weak:
        assert "has no conditional writes" in warnings[0]
        assert warnings[0] in log
    if "AWS_ACCESS_KEY_ID" in variables:
        removed = "around the value of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY was removed"
        assert (seen.stderr + log).count(removed) == 1
    reported = f"; result and log: {warnings[0]}" if warnings else ""
    check = "export" if is_weak else "data"
    field(
        area="S3",
        line=line,
        trouble=trouble,
        doctor=seen.row(check),
        run=f"exit 0, the model is registered{reported}"[:390],
    )
