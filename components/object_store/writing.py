"""Objects written, on a condition where two writers could meet, and removed."""

import functools
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from components.object_store.client import Store, make_client
from components.object_store.downloads import TRANSFER
from components.object_store.objects import DIGEST, look_for, parsed
from components.object_store.s3_errors import code_of
from nascore.files import sha256_of

_Answer = TypeVar("_Answer")
_WRITER = "nas-writer"  # user metadata: who wrote an object, where the answer was lost


class ObjectExists(FileExistsError):
    """Another writer wrote the object first, or removed the one that was to be replaced."""


def upload(
    path: Path,
    uri: str,
    *,
    if_absent: bool = False,
    digest: str | None = None,
    store: Store | None = None,
) -> str:
    """Copy a file to an object, in parallel parts; the object appears whole or not at all.

    Args:
        if_absent: leave an existing object unchanged; of two writers the first one wins.
        digest: SHA-256 of the file, where it is known already.

    Returns:
        The SHA-256 of the file, which is stored with the object and compared by `download`.

    Raises:
        ObjectExists: `if_absent`, and there is such an object.
        InputError: what is wrong and what to do.
    """
    store = store or Store()
    bucket, key = parsed(uri, store)
    digest, writer = digest or sha256_of(path), uuid.uuid4().hex
    metadata = {DIGEST: digest, _WRITER: writer}

    def request(client: Any) -> None:
        if if_absent:
            client = make_client(if_absent=True)
        extra = {"Metadata": metadata}
        client.upload_file(str(path), bucket, key, ExtraArgs=extra, Config=TRANSFER)

    _write(uri, request, writer, store)
    return digest


def put_if_absent(data: bytes, uri: str, *, store: Store | None = None) -> str:
    """Write a small object where none is: a lock, or a record with one author.

    Returns:
        Its ETag.

    Raises:
        ObjectExists: another writer was first.
        InputError: what is wrong and what to do.
    """
    return _put(data, uri, store or Store(), {"IfNoneMatch": "*"})


def put_if_same(data: bytes, uri: str, etag: str, *, store: Store | None = None) -> str:
    """Write a small object over the version that was read.

    Args:
        etag: as `fetch` gave it.

    Returns:
        The new ETag.

    Raises:
        ObjectExists: another writer has replaced or removed it meanwhile.
        InputError: what is wrong and what to do.
    """
    return _put(data, uri, store or Store(), {"IfMatch": etag})


def put(data: bytes, uri: str, *, store: Store | None = None) -> str:
    """Write a small object, whatever was there; return its ETag."""
    return _put(data, uri, store or Store(), {})


def _put(data: bytes, uri: str, store: Store, condition: dict[str, str]) -> str:
    bucket, key = parsed(uri, store)
    writer = uuid.uuid4().hex
    metadata = {DIGEST: hashlib.sha256(data).hexdigest(), _WRITER: writer}

    def request(client: Any) -> str:
        try:
            answer = client.put_object(
                Bucket=bucket, Key=key, Body=data, Metadata=metadata, **condition
            )
        except ClientError as error:
            if "IfMatch" not in condition or code_of(error) != "NoSuchKey":
                raise
            return ""  # Amazon's answer where the object is gone; others say 412
        return str(answer["ETag"])

    etag = _write(uri, request, writer, store)
    if not etag:
        raise ObjectExists(f"{uri} has been removed")
    return etag


def _write(uri: str, request: Callable[[Any], _Answer], writer: str, store: Store) -> _Answer | str:
    """Return what `request` gives; the ETag, where its answer was lost."""
    try:
        return store.call(uri, request)
    except ClientError as error:
        if code_of(error) != "PreconditionFailed":
            raise
    # A write whose answer was lost is made again, and then finds its own object there.
    found = look_for(uri, store=store)
    if found is None or found.get("Metadata", {}).get(_WRITER) != writer:
        raise ObjectExists(f"{uri} is there already, or has changed")
    return str(found["ETag"])


def digest_of(found: dict[str, Any]) -> str | None:
    """Return the SHA-256 that `upload` or `put` stored with an object; None if others wrote it."""
    digest: str | None = found.get("Metadata", {}).get(DIGEST)
    return digest


# --- removal --------------------------------------------------------------------------------


def remove(uri: str, *, store: Store) -> None:
    """Remove an object; a missing one is no error. Raises InputError."""
    bucket, key = parsed(uri, store)
    store.call(uri, lambda client: client.delete_object(Bucket=bucket, Key=key))


def abort_uploads(prefix: str, *, is_abandoned: Callable[[str], bool], store: Store) -> None:
    """Abort uploads in parts whose writer was killed: their parts take space, and are not listed.

    Args:
        prefix: URI with which the names of the objects begin.
        is_abandoned: by the URI of the object; an upload of a living writer must be left alone.

    Raises:
        InputError: they cannot be listed or aborted.
    """
    bucket, start = parsed(prefix, store)

    def listed(client: Any) -> list[dict[str, Any]]:
        pages = client.get_paginator("list_multipart_uploads")
        return [
            found
            for page in pages.paginate(Bucket=bucket, Prefix=start)
            for found in page.get("Uploads", [])
            if is_abandoned(f"s3://{bucket}/{found['Key']}")
        ]

    for found in store.call(prefix, listed):
        store.call(prefix, functools.partial(_abort, bucket=bucket, found=found))


def _abort(client: Any, *, bucket: str, found: dict[str, Any]) -> None:
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=found["Key"], UploadId=found["UploadId"])
    except ClientError as error:
        if code_of(error) != "NoSuchUpload":  # its writer has finished or aborted it meanwhile
            raise
