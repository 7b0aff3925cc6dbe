"""Objects copied to local files, in parallel parts, with their checksums compared."""

import base64
import zlib
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from s3transfer.subscribers import BaseSubscriber

from components.object_store.client import Store
from components.object_store.objects import DIGEST, look, parsed, report_changes
from components.object_store.s3_errors import RAISED, code_of, is_damage
from nascore.files import replacing, sha256_of

# Not the client in C, which boto3 takes on some machines: it does not read a given version.
TRANSFER = TransferConfig(
    multipart_chunksize=8 * 2**20, max_concurrency=8, preferred_transfer_client="classic"
)
_TRIES_IF_DAMAGED = 3


class ObjectMissing(Exception):
    """There is no such object."""


class ObjectDamaged(Exception):
    """An object has another content than it was written with."""


class _Version(BaseSubscriber):  # type: ignore[misc]  # s3transfer is untyped
    """Makes the transfer manager read the version that `look` found, part by part, or fail."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def on_queued(self, future: Any, **kwargs: Any) -> None:
        future.meta.provide_transfer_size(self._found["ContentLength"])
        future.meta.provide_object_etag(self._found["ETag"])


def download(uri: str, path: Path, *, store: Store | None = None) -> None:
    """Copy an object to `path`, which appears whole and checked or not at all.

    Raises:
        InputError: what is wrong and what to do.
    """
    store = store or Store()
    bucket, key = parsed(uri, store)
    found = look(uri, store=store)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:

        def request(client: Any) -> None:
            with create_transfer_manager(client, TRANSFER) as manager:
                name, version = str(temporary), _Version(found)
                manager.download(bucket, key, name, subscribers=[version]).result()

        with report_changes(uri, store):
            store.call(uri, request)
        if not _is_intact(temporary, found):
            raise store.problem(
                uri,
                "does not have the checksum that was stored with it; run again, and if it says the "
                "same, write the object again",
            )


def download_exact(uri: str, path: Path, *, sha256: str, store: Store) -> None:
    """Copy an object that never changes to a place that no other process reads yet.

    Args:
        sha256: of its content; an object that arrives with another one is fetched again, twice.

    Raises:
        ObjectMissing, ObjectDamaged: it is not there, or not what it was.
        InputError: what else is wrong and what to do.
    """
    bucket, key = parsed(uri, store)

    def request(client: Any) -> bool:
        """Return whether there is such an object; a damaged one is found by its SHA-256 below."""
        try:
            client.download_file(bucket, key, str(path), Config=TRANSFER)
        except RAISED as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return False
            if not is_damage(error):
                raise
        return True

    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES_IF_DAMAGED):
        if not store.call(uri, request):
            raise ObjectMissing(uri)
        if path.exists() and sha256_of(path) == sha256:
            return
    raise ObjectDamaged(uri)


def _is_intact(path: Path, found: dict[str, Any]) -> bool:
    """Compare the best digest of the whole that the store has.

    botocore compares checksums of whole answers; of an object that is fetched in parts it sees no
    answer that has one.
    """
    own = found.get("Metadata", {}).get(DIGEST)
    if own is not None:
        return bool(own == sha256_of(path))
    sha256, crc32 = found.get("ChecksumSHA256", "-"), found.get("ChecksumCRC32", "-")
    is_of_parts = found.get("ChecksumType") == "COMPOSITE"
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
