"""S3-compatible stores as they are found in the field: what `nas doctor` and `nas run` say.

Real SeaweedFS behind a relay that is as unkind as stores, proxies and firewalls that people report
(`unkind_s3` has the evidence). Both commands are called as a user calls them.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from field_commands import with_mounts
from PIL import Image
from s3 import ACCESS_KEY, DOMAIN, SECRET_KEY, S3Server
from s3_worlds import EXPORT, Ask, asking, put_images, refused
from unkind_s3 import UnkindRelay

from components.object_store.connection import make_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    put_images(s3_server)
    return s3_server


@pytest.fixture
def relay(server: S3Server) -> Iterator[UnkindRelay]:
    between = UnkindRelay(server.port)
    yield between
    between.close()


@pytest.fixture
def ask(relay: UnkindRelay, tmp_path: Path) -> Ask:
    return asking(relay.url, tmp_path)


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


def test_a_run_on_a_store_that_takes_virtual_hosted_addresses_only(
    relay: UnkindRelay, ask: Ask, tmp_path: Path, field: Callable[..., None]
) -> None:
    """A real server that reads the bucket from the name of the host."""
    relay.fault = "virtual only"
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {DOMAIN} data.{DOMAIN}\n")
    (tmp_path / "aws-config").write_text("[default]\ns3 =\n    addressing_style = virtual\n")
    url = relay.url.replace("127.0.0.1", DOMAIN)
    before = with_mounts(f"mount --bind {hosts} /etc/hosts")
    asked: list[bytes] = []
    relay.on_request = lambda head: asked.append(head.split(b"\r\n")[0])
    seen = ask(EXPORT, before=before, AWS_ENDPOINT_URL=url)
    assert seen.status == 0, seen.stderr
    assert seen.doctor["data"]["status"] == seen.doctor["export"]["status"] == "ok"
    assert b"GET /field.npz HTTP/1.1" in asked, "no path has the bucket"
    field(
        area="S3",
        line="34",
        trouble="a store of virtual-hosted addresses (addressing_style = virtual), a whole run",
        doctor=seen.row("export"),
        run="exit 0, the model is registered and exported",
    )
    path_style = ask(
        EXPORT, before=before, out="second", AWS_ENDPOINT_URL=url, AWS_CONFIG_FILE="/none"
    )
    refused(path_style, "data", "addressing_style = virtual")
    field(
        area="S3",
        line="34",
        trouble="a store of virtual-hosted addresses, without addressing_style = virtual",
        doctor=path_style.row("data"),
        run=path_style.message,
        seconds=round(path_style.seconds, 1),
    )


def test_a_bucket_with_dots(server: S3Server, ask: Ask, field: Callable[..., None]) -> None:
    bucket = "data.of.the-team"
    server.bucket(bucket)
    source = {"Bucket": "data", "Key": "field.npz"}
    server.client().copy_object(Bucket=bucket, Key="field.npz", CopySource=source)
    place = f"s3://{bucket}/handed-over"
    seen = ask({"data.source": f"npz:s3://{bucket}/field.npz", "promote.export_to": place})
    assert seen.status == 0, seen.stderr
    assert seen.doctor["data"]["status"] == seen.doctor["export"]["status"] == "ok"
    assert seen.result["exported_to"].startswith(place)
    field(
        area="S3",
        line="22",
        trouble="a bucket with dots in its name, for data and exported files",
        doctor=seen.row("export"),
        run="exit 0, the model is registered and exported",
    )


def test_markers_of_folders(server: S3Server, ask: Ask, field: Callable[..., None]) -> None:
    """Empty objects whose keys end in a slash, as consoles and sync tools make them."""
    client = server.client()
    for number in range(90):
        pixels = np.full((8, 8), 60 * (number % 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels + np.arange(8, dtype=np.uint8) * (number % 5)).save(file, "png")
        key = f"marked/class-{number % 3}/{number}.png"
        client.put_object(Bucket="data", Key=key, Body=file.getvalue())
    folders = ("marked/", *(f"marked/class-{label}/" for label in range(3)))
    for key in (*folders, "to/", "to/tiny/"):
        client.put_object(Bucket="data", Key=key, Body=b"")
    seen = ask({"data.source": "imagefolder:s3://data/marked", "promote.export_to": "s3://data/to"})
    assert seen.status == 0, seen.stderr
    assert seen.doctor["data"]["status"] == seen.doctor["export"]["status"] == "ok"
    assert seen.result["data"]["num_images"] == 90
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="data", Prefix="to/")["Contents"]]
    assert any(key.endswith("/result.json") for key in keys)
    field(
        area="S3",
        line="22",
        trouble="empty objects that mark folders, in the data and at the place of exported files",
        doctor=seen.row("data"),
        run="exit 0: 90 of 90 images are read, the model is registered and exported",
    )
    client.put_object(Bucket="data", Key="marked/class-3/", Body=b"")
    lacking = ask({"data.source": "imagefolder:s3://data/marked"}, out="second")
    assert lacking.status == 2, lacking.stderr
    assert "class folder class-3 has no image" in lacking.stderr
    field(
        area="S3",
        line="23",
        trouble="an empty object that marks a class folder without images",
        run=lacking.message,
        seconds=round(lacking.seconds, 1),
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
