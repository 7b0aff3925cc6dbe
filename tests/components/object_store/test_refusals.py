"""What a real S3 server refuses, or a relay does not answer, is reported with a remedy."""

import logging
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from s3 import ACCESS_KEY, SECRET_KEY, Relay
from s3_sources import CACHE, digits, message, prepared

from components.object_store.client import Store
from components.object_store.downloads import download
from components.object_store.objects import list_objects, look, read_object
from components.object_store.remote import S3

pytestmark = pytest.mark.usefixtures("aws_account")


# --- what is refused ------------------------------------------------------------------------


def test_no_such_bucket_and_key(s3: Any, tmp_path: Path) -> None:
    for source, said in (
        ("npz:s3://missing/a.npz", "no such bucket"),
        ("npz:s3://data/missing.npz", "no such object"),
        ("imagefolder:s3://missing/a", "no such bucket"),
    ):
        remote = S3(tmp_path, cache_bytes=CACHE)
        found = message(prepared, source, tmp_path, remote=remote)
        assert found.startswith("data.source = s3://")
        assert said in found


@pytest.mark.parametrize(
    ("key", "secret", "said"),
    [
        (ACCESS_KEY, "wrong", "the secret key is wrong"),
        ("unknown", "wrong", "does not know the access key"),
        ("stranger", SECRET_KEY, "may not be read or written with these credentials"),
        ("", "", "no complete credentials were found"),
    ],
    ids=["wrong secret", "unknown key", "no rights", "none"],  # a secret is another one each time
)
def test_wrong_credentials(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, secret: str, said: str
) -> None:
    s3.put_object(Bucket="data", Key="a/secret.npz", Body=digits())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    for source in ("npz:s3://data/a/secret.npz", "imagefolder:s3://data/a"):
        remote = S3(tmp_path, cache_bytes=CACHE)
        assert said in message(prepared, source, tmp_path, remote=remote)


@pytest.mark.parametrize("mode", ["away", "hang", "errors"])
def test_unreachable_server_is_reported_within_15_s(
    relay: Relay, tmp_path: Path, mode: str
) -> None:
    relay.mode = mode
    start = time.monotonic()
    remote = S3(tmp_path, cache_bytes=CACHE)
    found = message(prepared, "npz:s3://data/a.npz", tmp_path, remote=remote)
    assert "the server does not answer as it should" in found
    assert "AWS_ENDPOINT_URL" in found
    assert time.monotonic() - start < 15


def test_patience_ends(prefix: str, relay: Relay) -> None:
    store = Store(retry_timeout_s=2)
    item = next(list_objects(f"{prefix}/", store=store))
    relay.mode = "away"
    start = time.monotonic()
    found = message(read_object, f"s3://data/{item.key}", item.version, store=store)
    assert "does not answer as it should for 2 s" in found
    assert 2 < time.monotonic() - start < 12


def test_a_password_in_an_address_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="components")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET_KEY}@127.0.0.1:9")
    message(download, "s3://data/x", tmp_path / "x")
    assert SECRET_KEY not in caplog.text
    found = message(prepared, f"npz:s3://user:{SECRET_KEY}@data/a.npz", tmp_path)
    assert "holds a user name or a password" in found
    assert "s3://***@data/a.npz" in found
    assert "holds a user" in message(download, f"s3://user:{SECRET_KEY}@data/x", tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_key_that_is_no_npz(s3: Any, tmp_path: Path, content: bytes) -> None:
    s3.put_object(Bucket="data", Key="bad.npz", Body=content)
    remote = S3(tmp_path, cache_bytes=CACHE)
    found = message(prepared, "npz:s3://data/bad.npz", tmp_path, remote=remote)
    assert found.startswith("data.source = npz:s3://data/bad.npz: ")


def test_a_store_goes_to_other_processes(s3: Any) -> None:
    s3.put_object(Bucket="data", Key="p", Body=b"p")
    store = Store(trusted=True)
    look("s3://data/p", store=store)
    assert look("s3://data/p", store=pickle.loads(pickle.dumps(store)))["ContentLength"] == 1
