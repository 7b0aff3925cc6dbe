"""Objects: listed page by page, read whole, brought here with their checksums."""

import base64
import contextlib
import functools
import hashlib
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from components.object_store.client import TRANSFER, Store, code_of
from components.object_store.outputs import sha256_of
from nascore.data.file_access import parse_s3

DIGEST = "nas-sha256"  # user metadata: stores differ in the checksums they keep of large objects


class StoredObject(NamedTuple):
    """An object as it is listed. `etag` changes when the content does.

    Attributes:
        modified: when it was written, in seconds since 1970 by the clock of the store.
    """

    key: str
    size: int
    etag: str
    modified: float = 0.0

    @property
    def version(self) -> str:
        return f"{self.size}-{self.etag}"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What identifies a listing: equal ones hold the same objects, whatever was not read of them.

    It is no digest of contents: the same file has other ETags when it is uploaded in other parts.
    """

    num_objects: int
    num_bytes: int
    sha256: str


class Fingerprinter:
    """Takes objects one at a time, in the order of the listing, and keeps none."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._num_objects = self._num_bytes = 0

    def add(self, item: StoredObject) -> None:
        name = item.key.encode()
        self._digest.update(b"%d:%s%d:%s\n" % (len(name), name, item.size, item.etag.encode()))
        self._num_objects += 1
        self._num_bytes += item.size

    def result(self) -> Fingerprint:
        return Fingerprint(self._num_objects, self._num_bytes, self._digest.hexdigest())


def fingerprint(objects: Iterable[StoredObject]) -> Fingerprint:
    """Of any number of objects in constant memory."""
    made = Fingerprinter()
    for item in objects:
        made.add(item)
    return made.result()


def list_objects(uri: str, *, store: Store) -> Iterator[StoredObject]:
    """All objects whose keys begin with the URI, by name; a page of 1000 is held at a time.

    Raises:
        InputError: the bucket cannot be listed.
    """
    bucket, prefix = parsed(uri, store)
    more: dict[str, str] = {}
    while True:
        page = store.call(uri, functools.partial(_page, bucket=bucket, prefix=prefix, **more))
        for item in page.get("Contents", []):
            modified = item["LastModified"].timestamp()
            yield StoredObject(item["Key"], item["Size"], item["ETag"].strip('"'), modified)
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _page(client: Any, *, bucket: str, prefix: str, **more: str) -> dict[str, Any]:
    page: dict[str, Any] = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **more)
    return page


def read_object(uri: str, version: str, *, store: Store) -> bytes:
    """A small object, whole, if it is still the one that was listed.

    Raises:
        InputError: it is away, forbidden, changed, or another one than its checksum says.
    """
    bucket, key = parsed(uri, store)
    size, _, etag = version.partition("-")

    def request(client: Any) -> bytes:
        answer = client.get_object(
            Bucket=bucket, Key=key, IfMatch=f'"{etag}"', ChecksumMode="ENABLED"
        )
        body: bytes = answer["Body"].read()  # raises when cut short, or when a checksum differs
        return body

    with _changes_told(uri, store):
        body = store.call(uri, request)
    if len(body) != int(size):
        raise store.problem(uri, _CHANGED)
    return body


def fetch(uri: str, *, store: Store) -> tuple[bytes, str] | None:
    """A small object as it is now, and its ETag; None when there is none.

    To be told that there is none takes the right s3:ListBucket. Raises InputError.
    """
    bucket, key = parsed(uri, store)

    def request(client: Any) -> tuple[bytes, str] | None:
        try:
            answer = client.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        except Exception as error:
            if code_of(error) != "NoSuchKey":
                raise
            return None
        return answer["Body"].read(), answer["ETag"]

    return store.call(uri, request)


_CHANGED = "has changed while it was read; let it rest, then run again"


@contextlib.contextmanager
def _changes_told(uri: str, store: Store) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if code_of(error) != "PreconditionFailed":
            raise
        raise store.problem(uri, _CHANGED) from None


# --- whole files ----------------------------------------------------------------------------


def look(uri: str, *, store: Store) -> dict[str, Any]:
    """Size, ETag and metadata of an object, as HEAD gives them. Raises InputError."""
    bucket, key = parsed(uri, store)
    return store.call(uri, lambda client: _head(client, bucket, key))


def look_for(uri: str, *, store: Store) -> dict[str, Any] | None:
    """The same; None when there is no such object. Raises InputError."""
    bucket, key = parsed(uri, store)

    def request(client: Any) -> dict[str, Any] | None:
        try:
            return _head(client, bucket, key)
        except Exception as error:
            if code_of(error) != "NoSuchKey":
                raise
            return None

    return store.call(uri, request)


def _head(client: Any, bucket: str, key: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except Exception as error:
        if code_of(error).startswith(("3", "4")):
            # HEAD has no body: only a GET says whether bucket, key, secret or right is missing.
            client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
        raise
    return answer


def download(uri: str, path: Path, *, store: Store | None = None) -> None:
    """Brings an object here, in parallel parts; `path` appears whole and checked or not at all.

    Raises:
        InputError: what is wrong and what to do.
    """
    store = store or Store()
    bucket, key = parsed(uri, store)
    before = look(uri, store=store)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with _changes_told(uri, store):
            store.call(
                uri,
                lambda client: client.download_file(
                    bucket,
                    key,
                    str(temporary),
                    ExtraArgs={"ChecksumMode": "ENABLED"},
                    Config=TRANSFER,
                ),
            )
        _check(temporary, before, uri, store)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check(path: Path, before: dict[str, Any], uri: str, store: Store) -> None:
    after = look(uri, store=store)
    size = path.stat().st_size
    if after["ETag"] != before["ETag"] or size != after["ContentLength"]:
        raise store.problem(uri, _CHANGED)
    if not _is_intact(path, before):
        raise store.problem(
            uri,
            "does not have the checksum that was stored with it; run again, and if it says the "
            "same, write the object again",
        )


def _is_intact(path: Path, stored: dict[str, Any]) -> bool:
    """By the best digest of the whole that the store has; boto3 checks no parts of an object."""
    own = stored.get("Metadata", {}).get(DIGEST)
    if own is not None:
        return bool(own == sha256_of(path))
    sha256, crc32 = stored.get("ChecksumSHA256", "-"), stored.get("ChecksumCRC32", "-")
    is_of_parts = stored.get("ChecksumType") == "COMPOSITE"
    if not is_of_parts and "-" not in sha256:
        return base64.b64decode(sha256).hex() == sha256_of(path)
    if not is_of_parts and "-" not in crc32:
        return int.from_bytes(base64.b64decode(crc32)) == _crc32(path)
    return True


def _crc32(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            value = zlib.crc32(chunk, value)
    return value


def parsed(uri: str, store: Store) -> tuple[str, str]:
    """Bucket and key. Raises InputError."""
    try:
        return parse_s3(uri)
    except ValueError as error:
        raise store.problem(uri, str(error)) from None
