"""Objects written with a checksum, on a condition where two writers could meet."""

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from components.object_store.client import TRANSFER, Store, code_of, make_client
from components.object_store.objects import DIGEST, look_for, parsed
from components.object_store.outputs import sha256_of

_Answer = TypeVar("_Answer")
_WRITER = "nas-writer"  # user metadata: who wrote an object, where the answer was lost


class ObjectExists(FileExistsError):
    """Somebody else wrote the object first, or removed the one that was to be replaced."""


def upload(
    path: Path,
    uri: str,
    *,
    if_absent: bool = False,
    digest: str | None = None,
    store: Store | None = None,
) -> str:
    """Brings a file there, in parallel parts; the object appears whole or not at all.

    Args:
        if_absent: leave an object that is there alone; of two writers the first one wins.
        digest: SHA-256 of the file, where it is known already.

    Returns:
        The SHA-256 of the file, which is stored with the object and checked by `download`.

    Raises:
        ObjectExists: `if_absent`, and it is there.
        InputError: what is wrong and what to do.
    """
    store = store or Store()
    bucket, key = parsed(uri, store)
    digest, writer = digest or sha256_of(path), uuid.uuid4().hex
    arguments = {
        "ChecksumAlgorithm": "SHA256",
        "Metadata": {DIGEST: digest, _WRITER: writer},
    }

    def request(client: Any) -> None:
        if if_absent:
            client = make_client(if_absent=True)
        client.upload_file(str(path), bucket, key, ExtraArgs=arguments, Config=TRANSFER)

    _write(uri, request, writer, store)
    return digest


def put_if_absent(data: bytes, uri: str, *, store: Store | None = None) -> str:
    """Writes a small object where none is: a lock, or a record with one author.

    Returns:
        Its ETag.

    Raises:
        ObjectExists: somebody was first.
        InputError: what is wrong and what to do.
    """
    return _put(data, uri, store or Store(), {"IfNoneMatch": "*"})


def put_if_same(data: bytes, uri: str, etag: str, *, store: Store | None = None) -> str:
    """Writes a small object over the one that was seen.

    Args:
        etag: as `fetch` gave it.

    Returns:
        The new ETag.

    Raises:
        ObjectExists: somebody else has written or removed it meanwhile.
        InputError: what is wrong and what to do.
    """
    return _put(data, uri, store or Store(), {"IfMatch": etag})


def put(data: bytes, uri: str, *, store: Store | None = None) -> str:
    """Writes a small object, whatever was there; returns its ETag."""
    return _put(data, uri, store or Store(), {})


def _put(data: bytes, uri: str, store: Store, condition: dict[str, str]) -> str:
    bucket, key = parsed(uri, store)
    writer = uuid.uuid4().hex
    metadata = {DIGEST: hashlib.sha256(data).hexdigest(), _WRITER: writer}

    def request(client: Any) -> str:
        try:
            answer = client.put_object(
                Bucket=bucket,
                Key=key,
                Body=data,
                ChecksumAlgorithm="SHA256",
                Metadata=metadata,
                **condition,
            )
        except Exception as error:
            if "IfMatch" not in condition or code_of(error) != "NoSuchKey":
                raise
            return ""  # Amazon's answer where the object is gone; others say 412
        return str(answer["ETag"])

    etag = _write(uri, request, writer, store)
    if not etag:
        raise ObjectExists(f"{uri} has been removed")
    return etag


def _write(uri: str, request: Callable[[Any], _Answer], writer: str, store: Store) -> _Answer | str:
    """What `request` gives; the ETag, where its answer was lost."""
    try:
        return store.call(uri, request)
    except Exception as error:
        if code_of(error) != "PreconditionFailed":
            raise
    # A write whose answer was lost is made again, and then finds its own object there.
    found = look_for(uri, store=store)
    if found is None or found.get("Metadata", {}).get(_WRITER) != writer:
        raise ObjectExists(f"{uri} is there already, or has changed")
    return str(found["ETag"])


def digest_of(found: dict[str, Any]) -> str | None:
    """The SHA-256 that `upload` or `put` stored with an object; None when others wrote it."""
    digest: str | None = found.get("Metadata", {}).get(DIGEST)
    return digest
