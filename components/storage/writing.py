"""Objects written with a checksum, on a condition where two writers could meet."""

import hashlib
import uuid
from pathlib import Path
from typing import Any

from components.storage.client import TRANSFER, Store, code_of, make_client
from components.storage.objects import DIGEST, look, parsed
from components.storage.outputs import sha256_of

_WRITER = "nas-writer"  # user metadata: who wrote an object, where the answer was lost


class ObjectExists(FileExistsError):
    """Somebody else wrote the object first."""


def upload(path: Path, uri: str, *, if_absent: bool = False, store: Store | None = None) -> str:
    """Brings a file there, in parallel parts; the object appears whole or not at all.

    Args:
        if_absent: leave an object that is there alone; of two writers the first one wins.

    Returns:
        The SHA-256 of the file, which is stored with the object and checked by `download`.

    Raises:
        ObjectExists: `if_absent`, and it is there.
        InputError: what is wrong and what to do.
    """
    store = store or Store()
    bucket, key = parsed(uri, store)
    digest, writer = sha256_of(path), uuid.uuid4().hex
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


def put_if_absent(data: bytes, uri: str, *, store: Store | None = None) -> None:
    """Writes a small object where none is: a lock, or a record with one author.

    Raises:
        ObjectExists: somebody was first.
        InputError: what is wrong and what to do.
    """
    _put(data, uri, store or Store(), {"IfNoneMatch": "*"})


def put_if_same(data: bytes, uri: str, etag: str, *, store: Store | None = None) -> None:
    """Writes a small object over the one that was seen.

    Args:
        etag: as `fetch` gave it.

    Raises:
        ObjectExists: somebody else has written it meanwhile.
        InputError: what is wrong and what to do.
    """
    _put(data, uri, store or Store(), {"IfMatch": etag})


def put(data: bytes, uri: str, *, store: Store | None = None) -> None:
    """Writes a small object, whatever was there."""
    _put(data, uri, store or Store(), {})


def _put(data: bytes, uri: str, store: Store, condition: dict[str, str]) -> None:
    bucket, key = parsed(uri, store)
    writer = uuid.uuid4().hex
    metadata = {DIGEST: hashlib.sha256(data).hexdigest(), _WRITER: writer}
    _write(
        uri,
        lambda client: client.put_object(
            Bucket=bucket,
            Key=key,
            Body=data,
            ChecksumAlgorithm="SHA256",
            Metadata=metadata,
            **condition,
        ),
        writer,
        store,
    )


def _write(uri: str, request: Any, writer: str, store: Store) -> None:
    try:
        store.call(uri, request)
    except Exception as error:
        if code_of(error) != "PreconditionFailed":
            raise
        # A write whose answer was lost is made again, and then finds its own object there.
        if look(uri, store=store).get("Metadata", {}).get(_WRITER) != writer:
            raise ObjectExists(f"{uri} is there already") from None


def digest_of(found: dict[str, Any]) -> str | None:
    """The SHA-256 that `upload` or `put` stored with an object; None when others wrote it."""
    digest: str | None = found.get("Metadata", {}).get(DIGEST)
    return digest
