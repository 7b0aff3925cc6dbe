"""`s3://` data sources for `nascore.data`: one file, or a prefix that is read as a folder."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from components.object_store.answers import NotS3Error
from components.object_store.cache import Cache
from components.object_store.client import Store
from components.object_store.downloads import download
from components.object_store.objects import StoredObject, list_objects, look, read_object
from nascore.data.file_access import FileEntry, parse_s3

_KEY = "data.source"
_FIRST = 100  # objects that are looked at; markers of folders come first, and are empty
_THREADS = 16  # each waits for an answer most of its time


class ListingDigest:
    """SHA-256 of a listing: equal ones list the same objects, whatever was not read of them.

    Objects are added one at a time, in the order of the listing, and not kept. It is no digest of
    contents: the same file has other ETags when it is uploaded in other parts.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, item: StoredObject) -> None:
        name = item.key.encode()
        self._digest.update(b"%d:%s%d:%s\n" % (len(name), name, item.size, item.etag.encode()))

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class S3:
    """Opens URIs; `nascore.data.file_access.Remote`.

    Args:
        folder: for copies; a copy with the right size and ETag is not fetched again.
        cache_bytes: how much of a prefix is kept there; a single file is kept whatever its size.
        trusted: an earlier step has read from the same address; see `Store`.
        is_payer: the requester pays.
    """

    def __init__(
        self, folder: Path, *, cache_bytes: int, trusted: bool = False, is_payer: bool = False
    ) -> None:
        self._folder = folder
        self._store = Store(key=_KEY, trusted=trusted, is_payer=is_payer)
        self._cache = Cache(folder / "objects", max_bytes=cache_bytes)
        self._listed: ListingDigest | None = None

    def file(self, uri: str) -> Path:
        path, note = self._folder / "file.npz", self._folder / "file.json"
        found = look(uri, store=self._store)
        version = {"uri": uri, "size": found["ContentLength"], "etag": found["ETag"]}
        if not (path.exists() and note.exists() and json.loads(note.read_text()) == version):
            note.unlink(missing_ok=True)
            download(uri, path, store=self._store)
            note.write_text(json.dumps(version))
        seen = ListingDigest()
        seen.add(StoredObject("", found["ContentLength"], found["ETag"].strip('"')))
        self._listed = seen
        return path

    def folder(self, uri: str) -> "S3Files":
        self._listed = ListingDigest()
        return S3Files(uri.rstrip("/"), self._store, self._cache, self._listed)

    def remove_copies(self) -> None:
        """Remove the copies of data that was prepared whole, unless other runs share the folder."""
        if "NAS_CACHE_DIR" not in os.environ:
            shutil.rmtree(self._folder, ignore_errors=True)

    def listing_sha256(self) -> str:
        """Return the SHA-256 of the listing that `file` or `folder` has read."""
        assert self._listed is not None
        return self._listed.hexdigest()


def ask_for(client: Any, uri: str, *, is_file: bool) -> str:
    """Send the first requests of a run for its data source.

    Args:
        client: boto3's.
        uri: of a file or a folder.
        is_file: whether the URI names one object.

    Returns:
        The reason why it cannot be read; empty if it can.

    Raises:
        ClientError: there is no such bucket or object, or another error of S3.
        NotS3Error: a server of another kind has answered.
    """
    bucket, key = parse_s3(uri)
    if not is_file:
        prefix = f"{key.rstrip('/')}/" if key else ""
        found = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=_FIRST)
        if "KeyCount" not in found:
            raise NotS3Error("a listing without its length")
        keys = [item["Key"] for item in found.get("Contents", ()) if item["Size"]]
        if not keys:
            return f"there are no objects below {prefix or 'the bucket'}"
        key = keys[0]
    client.get_object(Bucket=bucket, Key=key)["Body"].close()
    return ""


def check_source(uri: str, *, is_file: bool, is_payer: bool) -> None:
    """Check that the data source of a run can be read. Arguments as for `ask_for` and `S3`.

    Raises:
        InputError: it cannot.
    """
    store = Store(key=_KEY, is_payer=is_payer)
    fault = store.call(uri, lambda client: ask_for(client, uri, is_file=is_file))
    if fault:
        raise store.problem(uri, f"{fault}; correct the bucket or the prefix")


class S3Files:
    """The objects below a prefix; `nascore.data.file_access.Files`."""

    num_threads = _THREADS

    def __init__(self, root: str, store: Store, cache: Cache, listed: ListingDigest) -> None:
        self.root = root
        self._store, self._cache, self._listed = store, cache, listed

    def entries(self) -> Iterator[FileEntry]:
        prefix = f"{self.root}/"
        start = len(prefix.removeprefix("s3://").partition("/")[2])
        is_empty = True
        for item in list_objects(prefix, store=self._store):
            is_empty = False
            self._listed.add(item._replace(key=item.key[start:]))
            yield FileEntry(item.key[start:], item.version)
        if is_empty:
            raise self._store.problem(
                self.root, "there is no object below it; correct the bucket or the prefix"
            )

    def open(self, entry: FileEntry) -> BinaryIO:
        uri = f"{self.root}/{entry.name}"
        content = self._cache.get(
            f"{uri} {entry.version}",
            int(entry.version.partition("-")[0]),
            lambda: read_object(uri, entry.version, store=self._store),
        )
        return io.BytesIO(content)
