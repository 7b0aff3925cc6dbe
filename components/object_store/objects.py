"""Objects of a store: listed page by page, looked up, and read whole."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from components.object_store.answers import NotS3Error
from components.object_store.client import Store
from components.object_store.s3_errors import code_of
from nascore.data.file_access import parse_s3

DIGEST = "nas-sha256"  # user metadata: stores differ in the checksums they keep of large objects
_CHANGED = "has changed while it was read; let it rest, then run again"


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


def list_objects(uri: str, *, store: Store) -> Iterator[StoredObject]:
    """Yield all objects whose keys begin with the URI, by name, with a page of 1000 in memory.

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


def may_list(uri: str, *, store: Store) -> bool:
    """Return whether the objects below a URI may be listed. Raises InputError."""
    bucket, prefix = parsed(uri, store)

    def request(client: Any) -> bool:
        try:
            client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        except ClientError as error:
            if code_of(error) not in ("AccessDenied", "403"):
                raise
            return False
        return True

    return store.call(uri, request)


def read_object(uri: str, version: str, *, store: Store) -> bytes:
    """Return the content of a small object, if it is still the one that was listed.

    Raises:
        InputError: the store is unreachable or refuses access, or the object has changed or is
            damaged.
    """
    bucket, key = parsed(uri, store)
    size, _, etag = version.partition("-")

    def request(client: Any) -> bytes:
        answer = client.get_object(Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        body: bytes = answer["Body"].read()  # raises when cut short, or when a checksum differs
        return body

    with report_changes(uri, store):
        body = store.call(uri, request)
    if len(body) != int(size):
        raise store.problem(uri, _CHANGED)
    return body


def fetch(uri: str, *, store: Store) -> tuple[bytes, str] | None:
    """Return the content and the ETag of a small object; None when there is no such object.

    The answer that there is none takes the right s3:ListBucket. Raises InputError.
    """
    bucket, key = parsed(uri, store)

    def request(client: Any) -> tuple[bytes, str] | None:
        with _none_if_missing():
            answer = _with_etag(client.get_object(Bucket=bucket, Key=key))
            return answer["Body"].read(), answer["ETag"]
        return None

    return store.call(uri, request)


def look(uri: str, *, store: Store) -> dict[str, Any]:
    """Return size, ETag and metadata of an object, as HEAD gives them. Raises InputError."""
    bucket, key = parsed(uri, store)
    return store.call(uri, lambda client: _head(client, bucket, key))


def look_for(uri: str, *, store: Store) -> dict[str, Any] | None:
    """Return the same; None when there is no such object. Raises InputError."""
    bucket, key = parsed(uri, store)

    def request(client: Any) -> dict[str, Any] | None:
        with _none_if_missing():
            return _head(client, bucket, key)
        return None

    return store.call(uri, request)


def _head(client: Any, bucket: str, key: str) -> dict[str, Any]:
    mode = {}
    if client.meta.config.response_checksum_validation != "when_required":
        mode["ChecksumMode"] = "ENABLED"  # of a large object `downloads` compares the checksum
    try:
        answer: dict[str, Any] = client.head_object(Bucket=bucket, Key=key, **mode)
    except ClientError as error:
        if code_of(error).startswith(("3", "4")):
            # HEAD has no body: only a GET says whether bucket, key, secret or right is missing.
            client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
        raise
    return _with_etag(answer)


def _with_etag(answer: dict[str, Any]) -> dict[str, Any]:
    if "ETag" not in answer:  # a web page, such as the console of a store
        raise NotS3Error("an object without an ETag")
    return answer


@contextlib.contextmanager
def _none_if_missing() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if code_of(error) != "NoSuchKey":
            raise


@contextlib.contextmanager
def report_changes(uri: str, store: Store) -> Iterator[None]:
    """Raise InputError when a read finds another version of the object than it asked for."""
    try:
        yield
    except ClientError as error:
        if code_of(error) != "PreconditionFailed":
            raise
        raise store.problem(uri, _CHANGED) from None


def parsed(uri: str, store: Store) -> tuple[str, str]:
    """Return bucket and key. Raises InputError."""
    try:
        return parse_s3(uri)
    except ValueError as error:
        raise store.problem(uri, str(error)) from None
