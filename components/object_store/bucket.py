"""A prefix in S3 as the place to which a run exports its files."""

from pathlib import Path
from tempfile import TemporaryDirectory

from components.object_store.client import Store
from components.object_store.downloads import download
from components.object_store.objects import fetch, look
from components.object_store.outputs import KEY
from components.object_store.write_checks import has_conditions, write_plainly
from components.object_store.writing import (
    ObjectExists,
    digest_of,
    put_if_absent,
    put_if_same,
    upload,
    weak_writes,
)
from nascore.files import sha256_of

_PROBE = ".writable"  # stays: without it, the right to delete would be needed


class BucketOutputs:
    """`components.object_store.outputs.Outputs` by S3's conditional writes."""

    def __init__(self, root: str, *, trusted: bool = False) -> None:
        self.root = root.rstrip("/")
        self._store = Store(key=KEY, trusted=trusted)
        self._is_weak: bool | None = None

    def check(self) -> str:
        """Write an object as the promotion does. Return a warning. Raises InputError."""
        uri = self._probe
        fetch(uri, store=self._store)  # some servers make a bucket by a write
        write_plainly(uri, b"", store=self._store)
        return self._weakness()

    @property
    def _probe(self) -> str:
        return f"{self.root}/{_PROBE}"

    def _weakness(self) -> str:
        """Return a warning if the store does not keep the conditions of writes."""
        if self._is_weak is None:
            self._is_weak = not has_conditions(self._probe, store=self._store)
        return weak_writes(self.root) if self._is_weak else ""

    def add(self, name: str, path: Path) -> str:
        uri = f"{self.root}/{name}"
        self._weakness()
        try:
            return upload(path, uri, if_absent=True, store=self._store)
        except ObjectExists:
            return digest_of(look(uri, store=self._store)) or self._digest(uri)

    def _digest(self, uri: str) -> str:
        with TemporaryDirectory() as folder:
            copy = Path(folder) / "object"
            download(uri, copy, store=self._store)
            return sha256_of(copy)

    def read(self, name: str) -> tuple[bytes, str] | None:
        return fetch(f"{self.root}/{name}", store=self._store)

    def replace(self, name: str, data: bytes, version: str | None) -> bool:
        uri = f"{self.root}/{name}"
        self._weakness()
        try:
            if version is None:
                put_if_absent(data, uri, store=self._store)
            else:
                put_if_same(data, uri, version, store=self._store)
        except ObjectExists:
            return False
        return True
