"""`s3://` data sources for `nascore.data`: one file, or a prefix that is read as a folder."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from components.object_store.cache import Cache
from components.object_store.client import Store
from components.object_store.objects import (
    Fingerprint,
    Fingerprinter,
    StoredObject,
    download,
    list_objects,
    look,
    read_object,
)
from nascore.data.file_access import FileEntry

_KEY = "data.source"
_THREADS = 16  # each waits for an answer most of its time


class S3:
    """Opens URIs; `nascore.data.file_access.Remote`.

    Args:
        folder: for copies; what is there already with the right size and ETag is not fetched again.
        cache_bytes: how much of a prefix is kept there; a single file is kept whatever its size.
        trusted: an earlier step has read from the same address; see `Store`.
    """

    def __init__(self, folder: Path, *, cache_bytes: int, trusted: bool = False) -> None:
        self._folder = folder
        self._store = Store(key=_KEY, trusted=trusted)
        self._cache = Cache(folder / "objects", max_bytes=cache_bytes)
        self._listed: Fingerprinter | None = None

    def file(self, uri: str) -> Path:
        path, note = self._folder / "file.npz", self._folder / "file.json"
        found = look(uri, store=self._store)
        version = {"uri": uri, "size": found["ContentLength"], "etag": found["ETag"]}
        if not (path.exists() and note.exists() and json.loads(note.read_text()) == version):
            note.unlink(missing_ok=True)
            download(uri, path, store=self._store)
            note.write_text(json.dumps(version))
        seen = Fingerprinter()
        seen.add(StoredObject("", found["ContentLength"], found["ETag"].strip('"')))
        self._listed = seen
        return path

    def folder(self, uri: str) -> "S3Files":
        self._listed = Fingerprinter()
        return S3Files(uri.rstrip("/"), self._store, self._cache, self._listed)

    def remove_copies(self) -> None:
        """For when the data has been prepared whole. Other runs may still need a shared folder."""
        if "NAS_CACHE_DIR" not in os.environ:
            shutil.rmtree(self._folder, ignore_errors=True)

    def fingerprint(self) -> Fingerprint:
        """Of what was listed."""
        assert self._listed is not None
        return self._listed.result()


class S3Files:
    """The objects below a prefix; `nascore.data.file_access.Files`."""

    num_threads = _THREADS

    def __init__(self, root: str, store: Store, cache: Cache, listed: Fingerprinter) -> None:
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
