"""Listings, copies and writes against a real S3 server, directly and through a relay."""

import tracemalloc
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3 import Relay
from s3_sources import message

from components.object_store.client import Store
from components.object_store.downloads import download
from components.object_store.objects import StoredObject, list_objects, look, read_object
from components.object_store.remote import ListingDigest
from components.object_store.writing import ObjectExists, put_if_absent, upload

pytestmark = pytest.mark.usefixtures("aws_account")


# --- listings -------------------------------------------------------------------------------


def digest_of(objects: Iterable[StoredObject]) -> str:
    digest = ListingDigest()
    for item in objects:
        digest.add(item)
    return digest.hexdigest()


def listed(number: int) -> StoredObject:
    return StoredObject(f"images/{number:08d}.png", number, f"{number:032x}")


class Pages:
    """Answers of a server with 100,000 objects; a real one of this size would take minutes."""

    def list_objects_v2(self, **arguments: Any) -> dict[str, Any]:
        start = int(arguments.get("ContinuationToken", 0))
        return {
            "Contents": [
                {
                    "Key": f"images/{n:08d}.png",
                    "Size": n,
                    "ETag": f'"{n:032x}"',
                    "LastModified": datetime.fromtimestamp(n, UTC),
                }
                for n in range(start, start + 1000)
            ],
            "IsTruncated": start < 99_000,
            "NextContinuationToken": str(start + 1000),
        }


def test_100000_objects_in_constant_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "client", Pages())
    tracemalloc.start()
    try:
        digest, count = ListingDigest(), 0
        for item in list_objects("s3://data/images/", store=Store()):
            digest.add(item)
            count += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert digest.hexdigest() == digest_of(listed(n) for n in range(count))
    assert peak < 3 * 2**20


def test_pages_of_a_real_server(s3: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = [f"many/{number:05d}" for number in range(2100)]
        list(pool.map(lambda key: s3.put_object(Bucket="data", Key=key, Body=key.encode()), keys))
    found = list(list_objects("s3://data/many/", store=Store()))
    assert [item.key for item in found] == keys
    before = digest_of(found)
    s3.put_object(Bucket="data", Key=keys[7], Body=b"xxxx/00007")
    assert digest_of(list_objects("s3://data/many/", store=Store())) != before


def test_names_cannot_be_mistaken_for_each_other() -> None:
    one = [StoredObject("a", 1, "e"), StoredObject("b", 2, "f")]
    assert digest_of(one) != digest_of(reversed(one))
    assert digest_of([StoredObject("a1:e", 1, "")]) != digest_of([StoredObject("a", 1, ":e")])


# --- files there and back -------------------------------------------------------------------


def test_large_file_there_and_back(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(np.random.default_rng(0).bytes(20 * 2**20))
    digest = upload(tmp_path / "a", "s3://data/large")
    download("s3://data/large", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert look("s3://data/large", store=Store())["Metadata"]["nas-sha256"] == digest
    assert "-3" in look("s3://data/large", store=Store())["ETag"]  # in parts


@pytest.mark.parametrize("num_bytes", [10, 17 * 2**20])
def test_first_writer_wins(s3: Any, tmp_path: Path, num_bytes: int) -> None:
    uri = f"s3://data/first-{num_bytes}"
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() * num_bytes)
    upload(tmp_path / "a", uri, if_absent=True)
    with pytest.raises(ObjectExists):
        upload(tmp_path / "b", uri, if_absent=True)
    download(uri, tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()
    upload(tmp_path / "b", uri)
    with pytest.raises(FileExistsError):
        put_if_absent(b"c", uri)


def test_one_of_many_writers_wins(s3: Any) -> None:
    def write(number: int) -> bool:
        try:
            put_if_absent(b"the same", "s3://data/lock")
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 1


def test_a_write_whose_answer_was_lost_is_ours(relay: Relay) -> None:
    relay.mode = "cut answer"
    put_if_absent(b"mine", "s3://data/lost")
    assert relay.num_failed == 1
    with pytest.raises(ObjectExists):
        put_if_absent(b"mine", "s3://data/lost")


def test_another_content_than_stored_is_refused(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="data", Key="x", Body=b"b", Metadata={"nas-sha256": "0" * 64})
    assert "does not have the checksum" in message(download, "s3://data/x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC32"])
def test_large_object_that_is_damaged_on_the_way(
    s3: Any, relay: Relay, tmp_path: Path, algorithm: str
) -> None:
    s3.put_object(Bucket="data", Key="y", Body=bytes(9 * 2**20), ChecksumAlgorithm=algorithm)
    download("s3://data/y", tmp_path / "y")
    relay.mode = "corrupt"
    assert "does not have the checksum" in message(download, "s3://data/y", tmp_path / "z")
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


@pytest.mark.parametrize("num_parts", [0, 2])
def test_large_object_that_changes_on_the_way(
    s3: Any, relay: Relay, tmp_path: Path, num_parts: int
) -> None:
    """Between the first look and the parts, and between the parts."""
    s3.put_object(Bucket="data", Key="z", Body=bytes(17 * 2**20))
    seen = []

    def watch(head: bytes) -> None:
        seen.extend([head] * head.startswith(b"GET"))
        if len(seen) == num_parts + 1 and head is seen[-1]:
            s3.put_object(Bucket="data", Key="z", Body=b"x" * 17 * 2**20)

    relay.on_request = watch
    assert "has changed while it was read" in message(download, "s3://data/z", tmp_path / "z")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "said"), [("corrupt", "does not have the checksum"), ("cut", "does not answer as it")]
)
def test_damage_on_the_way(prefix: str, relay: Relay, mode: str, said: str) -> None:
    store = Store(retry_timeout_s=6)  # one answer can take more than two seconds on a busy machine
    item = next(list_objects(f"{prefix}/", store=store))
    uri = f"s3://data/{item.key}"
    relay.mode = mode
    assert said in message(read_object, uri, item.version, store=store)
    assert relay.num_failed > 1
    relay.mode = "pass"
    assert len(read_object(uri, item.version, store=store)) == item.size
