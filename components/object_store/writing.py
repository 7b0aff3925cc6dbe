"""Objects written, on a condition where two writers could meet, and removed."""

import functools
import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from components.object_store.client import ConditionRefused, Store
from components.object_store.downloads import TRANSFER
from components.object_store.environment import ENDPOINTS
from components.object_store.objects import DIGEST, look_for, parsed
from components.object_store.s3_errors import code_of
from nascore.data.file_access import parse_s3
from nascore.files import sha256_of

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
Condition = Mapping[str, str]
_IF_ABSENT: Condition = {"IfNoneMatch": "*"}
_without_conditions: set[tuple[str, ...]] = set()  # buckets and addresses, as they are found
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
        extra = {"Metadata": metadata}
        client.upload_file(str(path), bucket, key, ExtraArgs=extra, Config=TRANSFER)

    def request_if_absent(client: Any) -> None:
        request(store.client_if_absent)

    if not if_absent:
        _write(uri, request, writer, store)
    else:
        _write_on(
            _IF_ABSENT,
            uri,
            on_condition=request_if_absent,
            request=request,
            writer=writer,
            store=store,
        )
    return digest


def put_if_absent(data: bytes, uri: str, *, store: Store | None = None) -> str:
    """Write a small object where none is: a lock, or a record with one author.

    Returns:
        Its ETag.

    Raises:
        ObjectExists: another writer was first.
        InputError: what is wrong and what to do.
    """
    return _put(data, uri, store or Store(), _IF_ABSENT)


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


def _put(data: bytes, uri: str, store: Store, condition: Condition) -> str:
    bucket, key = parsed(uri, store)
    writer = uuid.uuid4().hex
    metadata = {DIGEST: hashlib.sha256(data).hexdigest(), _WRITER: writer}

    def request(client: Any, **on: str) -> str:
        try:
            answer = client.put_object(Bucket=bucket, Key=key, Body=data, Metadata=metadata, **on)
        except ClientError as error:
            if "IfMatch" not in on or code_of(error) != "NoSuchKey":
                raise
            return ""  # Amazon's answer where the object is gone; others say 412
        return str(answer["ETag"])

    if condition:
        etag = _write_on(
            condition,
            uri,
            on_condition=functools.partial(request, **condition),
            request=request,
            writer=writer,
            store=store,
        )
    else:
        etag = _write(uri, request, writer, store)
    if not etag:
        raise ObjectExists(f"{uri} has been removed")
    return etag


def _write_on(
    condition: Condition,
    uri: str,
    *,
    on_condition: Callable[[Any], _Answer],
    request: Callable[[Any], _Answer],
    writer: str,
    store: Store,
) -> _Answer | str:
    """Write on a condition; where the store takes none, look whether it holds, then write.

    Args:
        condition: arguments of boto3.
        uri: of the object.
        on_condition: request that sends the condition.
        request: the same one without it.
        writer: metadata of the object, by which a write whose answer was lost is known.
        store: as usual.

    Raises:
        ObjectExists: the condition does not hold.
    """
    place = _place(uri, store)
    if place not in _without_conditions:
        try:
            return _write(uri, on_condition, writer, store, has_condition=True)
        except ConditionRefused:
            _note(place, uri)
    found = look_for(uri, store=store)
    is_same = found is not None and found["ETag"] == condition.get("IfMatch")
    if not is_same and (found is not None or "IfMatch" in condition):
        raise ObjectExists(f"{uri} is there already, or has changed")
    return _write(uri, request, writer, store)


def _write(
    uri: str,
    request: Callable[[Any], _Answer],
    writer: str,
    store: Store,
    *,
    has_condition: bool = False,
) -> _Answer | str:
    """Return what `request` gives; the ETag, where its answer was lost."""
    try:
        return store.call(uri, request, has_condition=has_condition)
    except ClientError as error:
        if code_of(error) != "PreconditionFailed":
            raise
    # A write whose answer was lost is made again, and then finds its own object there.
    found = look_for(uri, store=store)
    if found is None or found.get("Metadata", {}).get(_WRITER) != writer:
        raise ObjectExists(f"{uri} is there already, or has changed")
    return str(found["ETag"])


# --- stores without conditional writes --------------------------------------------------------


def is_weak(uri: str, *, store: Store) -> bool:
    """Return whether this process has found that the store has no conditional writes.

    It then looks whether the condition of a write holds, and writes without it, which is right for
    one writer at a time.
    """
    return _place(uri, store) in _without_conditions


def note_ignored(uri: str, *, store: Store) -> None:
    """Note that the store of an object has ignored the condition of a write."""
    _note(_place(uri, store), uri)


def weak_writes(uri: str) -> str:
    """Return the warning about a place whose store does not keep the conditions of writes."""
    bucket = parse_s3(uri)[0]
    return (
        f"the store of s3://{bucket} has no conditional writes (If-None-Match, If-Match): what is "
        "there is looked at before each write, so let only one run at a time write there"
    )


def _note(place: tuple[str, ...], uri: str) -> None:
    if place not in _without_conditions:
        _without_conditions.add(place)
        _log.warning("%s", weak_writes(uri))


def _place(uri: str, store: Store) -> tuple[str, ...]:
    return parsed(uri, store)[0], *(os.environ.get(name, "") for name in ENDPOINTS)


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
