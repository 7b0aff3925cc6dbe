"""The place to which a run exports its files: a folder, or a prefix in S3.

Nothing is overwritten: a file is added where none is, and the one that changes is replaced only by
a process that has read the version it replaces.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from nascore.data.file_access import S3, parse_prefix
from nascore.errors import InputError, ResourceUnavailable
from nascore.files import lock_fault, replacing, sha256_of

KEY = "promote.export_to"
_LOCK = ".lock"


class Outputs(Protocol):
    """Files by names below one root."""

    root: str

    def check(self) -> str:
        """Write something and remove it; a store that allows no removal keeps an empty object.

        Returns:
            A warning; empty where there is none.

        Raises:
            InputError: files cannot be written there.
        """
        ...

    def add(self, name: str, path: Path) -> str:
        """Copy a file to a name that is free.

        Returns:
            SHA-256 of the file of that name: of another's where another process was first.
        """
        ...

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return content and version of a small file; None when there is none."""
        ...

    def replace(self, name: str, data: bytes, version: str | None) -> bool:
        """Write a small file over the one of `version`, or where none is.

        Returns:
            False when another process has written it meanwhile.
        """
        ...


def open_outputs(root: str, *, trusted: bool = False) -> Outputs:
    """Return the place that `promote.export_to` names, without a request to a server.

    Args:
        trusted: an earlier step has used the address, so an unreachable server is waited for.
    """
    if not root.startswith(S3):
        return FolderOutputs(Path(root).expanduser())
    from components.object_store.bucket import BucketOutputs  # boto3: a third of a second

    return BucketOutputs(root, trusted=trusted)


def uri_error(root: str) -> str:
    """Return what is wrong with a root, without secrets; empty when nothing is."""
    if root.startswith(S3):
        try:
            parse_prefix(root)
        except ValueError as error:
            return str(error)
    elif "://" in root:
        return "is neither s3://BUCKET/PREFIX nor a folder"
    return ""


class FolderOutputs:
    """A folder that this machine sees; writers take turns by a lock in it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._root = root

    def check(self) -> str:
        existing = next(
            path for path in (self._root, *self._root.absolute().parents) if path.exists()
        )
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise InputError.of(
                KEY, self.root, f"cannot be written ({error.strerror}); choose another place"
            ) from error
        fault = lock_fault(existing)
        if fault:
            message = f"its file system has no locks ({fault}); choose a folder on another disk"
            raise InputError.of(KEY, self.root, message)
        return ""

    def add(self, name: str, path: Path) -> str:
        target = self._root / name
        with self._reporting(), self._locked():
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target) as temporary:
                    shutil.copyfile(path, temporary)
            return sha256_of(target)

    def read(self, name: str) -> tuple[bytes, str] | None:
        with self._reporting():
            return self._read(self._root / name)

    def replace(self, name: str, data: bytes, version: str | None) -> bool:
        target = self._root / name
        with self._reporting(), self._locked():
            existing = self._read(target)
            if (None if existing is None else existing[1]) != version:
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                temporary.write_bytes(data)
            return True

    def _read(self, target: Path) -> tuple[bytes, str] | None:
        try:
            content = target.read_bytes()
        except FileNotFoundError:
            return None
        return content, hashlib.sha256(content).hexdigest()

    def _locked(self) -> FileLock:
        self._root.mkdir(parents=True, exist_ok=True)
        return FileLock(self._root / _LOCK)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResourceUnavailable.of(
                KEY, self.root, f"cannot be written ({error}); free space or choose another place"
            ) from error
