"""Access to the files of a data set in a local folder or, by a protocol, anywhere else.

`nascore` has no network access: a caller that has one passes a `Remote`. From the listing to the
batches of a training the code is the same as for a local folder.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from nascore.data.findings import Finding
from nascore.errors import InputError

MAX_FILE_BYTES = 512 * 2**20
"""A larger file is no image: it is refused before it is read."""

S3 = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FOLLOWED = 2  # levels at which a link to a folder is followed: parts and classes
BROKEN_LINK = "broken-link"
LINK = "link"
SPECIAL = "special-file"


class FileEntry(NamedTuple):
    """A file below a root.

    Attributes:
        name: POSIX path relative to the root; that of a folder ends with a slash.
        version: must be the same when the file is opened; empty when it is not checked.
        fault: why the file cannot be read (`BROKEN_LINK`, `LINK`, `SPECIAL`); empty when it can.
    """

    name: str
    version: str = ""
    fault: str = ""


class Files(Protocol):
    """The files below one root.

    Attributes:
        root: a path or a URI, which all machines that train can open.
        num_threads: files to open at a time; 1 where opening does not wait for a network.
    """

    root: str
    num_threads: int

    def entries(self) -> Iterator[FileEntry]:
        """Yield all files in any order, and folders that would otherwise not be seen.

        Raises:
            OSError, InputError: The root cannot be listed.
        """
        ...

    def open(self, entry: FileEntry) -> BinaryIO:
        """Open a file, from several threads and processes at once.

        Raises:
            OSError: This file cannot be read; others may.
            InputError: No file can be read, or the data has changed.
        """
        ...


class Remote(Protocol):
    """Access to `s3://` URIs."""

    def file(self, uri: str) -> Path:
        """Return a local copy of a whole file.

        Raises:
            InputError: It cannot be read.
        """
        ...

    def folder(self, uri: str) -> Files:
        """Return the files whose names begin with the URI and a slash; nothing is opened yet."""
        ...


class LocalFiles:
    """The files of a local folder; one whose size or time changed since its listing is not read."""

    num_threads = 1

    def __init__(self, root: Path) -> None:
        self._root = root
        self.root = str(root)

    def entries(self) -> Iterator[FileEntry]:
        """Yield all files and folders."""
        yield from _walk(self.root, "", 0, (_identity(os.stat(self.root)),))

    def open(self, entry: FileEntry) -> BinaryIO:
        """Open a file if it is the one that was listed."""
        file = open(self._root / entry.name, "rb")  # noqa: SIM115 (the caller closes it)
        if entry.version and _version(os.fstat(file.fileno())) != entry.version:
            file.close()
            raise InputError([changed(str(self._root / entry.name))])
        return file


def changed(name: str) -> Finding:
    """Return the problem of a file that is not the one that was listed."""
    message = "has changed since it was listed; let it rest, and start again"
    return Finding("data.source", name, message, "changed-file", 1, (name,))


def to_lines(entries: Iterable[FileEntry]) -> Iterator[bytes]:
    """Yield name, tab and version of each file; the name alone where it has no version."""
    for name, version, _ in entries:
        yield os.fsencode(f"{name}\t{version}" if version else name)


def size_of(entry: FileEntry) -> int | None:
    """Return the bytes of a file, where its version contains them."""
    size = entry.version.partition("-")[0]
    return int(size) if size.isdigit() else None


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _walk(
    folder: str, prefix: str, depth: int, above: tuple[tuple[int, int], ...]
) -> Iterator[FileEntry]:
    """Yield the files and folders below a folder.

    Args:
        above: identities of the folders that lead here; a link to one of them has no end.
    """
    with os.scandir(folder) as found:
        items = sorted(found, key=lambda item: item.name)
    for item in items:
        name = prefix + item.name
        try:
            status = item.stat()
        except OSError:  # its target is missing, or it leads to itself
            if not item.is_symlink():
                raise
            yield FileEntry(name, fault=BROKEN_LINK)
            continue
        if item.is_dir():
            identity = _identity(status)
            if item.is_symlink() and (depth >= _FOLLOWED or identity in above):
                yield FileEntry(name, fault=BROKEN_LINK if identity in above else LINK)
                continue
            yield FileEntry(f"{name}/")
            yield from _walk(item.path, f"{name}/", depth + 1, (*above, identity))
        elif item.is_file():
            yield FileEntry(name, _version(status))
        else:
            yield FileEntry(name, fault=SPECIAL)


def parse_s3(uri: str) -> tuple[str, str]:
    """Return bucket and key of `s3://BUCKET/KEY`; the key may be empty.

    Raises:
        ValueError: The error in it, without what may be a secret.
    """
    rest = uri.removeprefix(S3)
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ("@" in rest and ":" in rest.partition("@")[0]):
        raise ValueError(
            "holds a user name or a password; leave it out and give AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (from a secret) or a role to the steps"
        )
    if not uri.startswith(S3) or _BUCKET.fullmatch(bucket) is None:
        raise ValueError(
            "is no S3 URI; write s3://BUCKET/KEY, the bucket in 3 to 63 lower-case letters, "
            "digits, dots and hyphens (AWS_ENDPOINT_URL names another server than Amazon's)"
        )
    if any(part in (".", "..") for part in key.split("/")):
        raise ValueError("has a key with '.' or '..' in it; name the object as the store lists it")
    return bucket, key


def parse_prefix(uri: str) -> tuple[str, str]:
    """Return bucket and prefix of a place that is written to.

    Raises:
        ValueError: The error in it, such as characters that other programs cut off.
    """
    bucket, key = parse_s3(uri)
    odd = sorted({character for character in key if character in "?#" or character.isspace()})
    if odd:
        shown = " and ".join("a space" if each.isspace() else each for each in odd)
        raise ValueError(
            f"has {shown} in its prefix, which tools read in different ways; use letters, digits, "
            "hyphens and slashes"
        )
    return bucket, key
