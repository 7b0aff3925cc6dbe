"""Where the files of a run are handed over: a folder, or a prefix in S3.

Nothing is overwritten: a file is added where none is, and the one that changes is replaced only by
somebody who has seen what was there.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nascore.data.file_access import S3, parse_prefix
from nascore.errors import InputError, ResourceUnavailable

KEY = "promote.export_to"
_LOCK = ".lock"


class Outputs(Protocol):
    """Files by names below one root."""

    root: str

    def check(self) -> None:
        """Raises InputError unless files can be written there."""
        ...

    def add(self, name: str, path: Path) -> str:
        """Copies a file to a name that is free.

        Returns:
            SHA-256 of the file of that name: of another's when somebody was first.
        """
        ...

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Content and version of a small file; None when there is none."""
        ...

    def replace(self, name: str, data: bytes, version: str | None) -> bool:
        """Writes a small file over the one of `version`, or where none is.

        Returns:
            False when somebody else has written it meanwhile.
        """
        ...


def open_outputs(root: str, *, trusted: bool = False) -> Outputs:
    """What `promote.export_to` names; nothing is asked of a server yet.

    Args:
        trusted: an earlier step has found the address right: a server that is away is waited for.
    """
    if not root.startswith(S3):
        return FolderOutputs(Path(root).expanduser())
    from components.object_store.bucket import BucketOutputs  # boto3: a third of a second

    return BucketOutputs(root, trusted=trusted)


def uri_error(root: str) -> str:
    """What is wrong with a root, without what may be a secret; empty when nothing is."""
    if root.startswith(S3):
        try:
            parse_prefix(root)
        except ValueError as error:
            return str(error)
    elif "://" in root:
        return "is neither s3://BUCKET/PREFIX nor a folder"
    return ""


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FolderOutputs:
    """A folder that this machine sees; writers take turns by a lock in it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._root = root

    def check(self) -> None:
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

    def add(self, name: str, path: Path) -> str:
        target = self._root / name
        with self._told(), self._locked():
            if not target.exists():
                with self._appearing(target) as temporary:
                    shutil.copyfile(path, temporary)
            return sha256_of(target)

    def read(self, name: str) -> tuple[bytes, str] | None:
        with self._told():
            return self._read(self._root / name)

    def replace(self, name: str, data: bytes, version: str | None) -> bool:
        target = self._root / name
        with self._told(), self._locked():
            there = self._read(target)
            if (None if there is None else there[1]) != version:
                return False
            with self._appearing(target) as temporary:
                temporary.write_bytes(data)
            return True

    def _read(self, target: Path) -> tuple[bytes, str] | None:
        try:
            content = target.read_bytes()
        except FileNotFoundError:
            return None
        return content, hashlib.sha256(content).hexdigest()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with open(self._root / _LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _appearing(self, target: Path) -> Iterator[Path]:
        """A file beside the target, which becomes it whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            yield temporary
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResourceUnavailable.of(
                KEY, self.root, f"cannot be written ({error}); free space or choose another place"
            ) from error
