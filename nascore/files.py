"""Files that appear whole or not at all, digests of files, and folders that can be written."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

_FULL_BYTES = 2**20


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name in the same folder; what the block writes there becomes `path` at its end.

    A reader, or a process that starts after a crash, sees the old file or the new one. When the
    block raises, nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def full_disk(folders: Iterable[Path]) -> Path | None:
    """Return the first of the folders whose disk has no space left; None if each has some."""
    for folder in folders:
        with contextlib.suppress(OSError):  # it does not exist
            if shutil.disk_usage(folder).free < _FULL_BYTES:
                return folder
    return None


def lock_fault(folder: Path) -> str:
    """Return why no file can be locked in a folder, such as one on NFS without lockd; else empty.

    Args:
        folder: that can be written.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def is_writable(folder: Path) -> bool:
    """Return whether a file can be made in a folder, or in the nearest one that exists above it.

    A write is tried: permissions say nothing of what root may do, or of a read-only mount.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
