"""A real object store with an empty place for each test, and state folders."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3 import Relay, S3Server
from unkind_s3 import UnkindRelay

from components.object_store import client, connection
from components.run_state.object_store import ObjectState

BUCKET = "state"


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    s3_server.bucket(BUCKET)
    return s3_server


@pytest.fixture
def s3(server: S3Server, aws_account: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A plain client to look with; the code under test finds the server as well."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return server.client()


@pytest.fixture
def relay(server: S3Server, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    between = Relay(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
    yield between
    between.mode = "away"
    between.close()


@pytest.fixture
def unkind(server: S3Server, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[UnkindRelay]:
    between = UnkindRelay(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
    yield between
    between.close()


@pytest.fixture
def root(s3: Any) -> str:
    """`s3://BUCKET/PREFIX` of each test's own."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def keys(s3: Any, root: str) -> Callable[[], dict[str, int]]:
    """Size of each object below the root, by what follows the root."""

    def listed() -> dict[str, int]:
        prefix = root.removeprefix(f"s3://{BUCKET}/") + "/"
        page = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return {item["Key"].removeprefix(prefix): item["Size"] for item in page.get("Contents", [])}

    return listed


@pytest.fixture
def pod(root: str, tmp_path: Path) -> Callable[..., tuple[ObjectState, Path]]:
    """`pod("a")`: the state of step `search` of run `r1` in a pod of its own, and its folder."""

    def start(name: str, **changed: Any) -> tuple[ObjectState, Path]:
        folder = tmp_path / name / "search"
        given = {"run_id": "r1", "step": "search", **changed}
        return ObjectState(root, folder=folder, **given), folder

    return start


@pytest.fixture
def stored(s3: Any, root: str) -> Callable[[str], bytes]:
    """Content of an object by what follows the root."""
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    return lambda key: s3.get_object(Bucket=bucket, Key=f"{prefix}/{key}")["Body"].read()


@pytest.fixture
def store(s3: Any, root: str) -> Callable[[str, bytes | None], None]:
    """Write an object by what follows the root, or remove it."""
    bucket, _, prefix = root.removeprefix("s3://").partition("/")

    def write(key: str, content: bytes | None) -> None:
        if content is None:
            s3.delete_object(Bucket=bucket, Key=f"{prefix}/{key}")
        else:
            s3.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content)

    return write


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs is given up after seconds."""
    monkeypatch.setattr(client, "READ_S", 0.5)
    monkeypatch.setattr(connection, "_ATTEMPTS", 2)
