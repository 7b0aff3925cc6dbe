"""Where the files of a data set lie: in a folder here, or wherever somebody else can open them.

The science knows no network. Who reads from one gives a `Remote`; everything behind it, from the
listing to the batches of a network, is the same code as for a local folder.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

S3 = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FOLLOWED = 2  # levels at which a link to a folder is followed: parts and classes


class Entry(NamedTuple):
    """A file below a root.

    Attributes:
        name: POSIX path relative to the root; that of a folder ends with a slash.
        version: what must not have changed when the file is opened; empty when it is not watched.
    """

    name: str
    version: str = ""


class Files(Protocol):
    """The files below one root.

    Attributes:
        root: a path or an URI; whoever trains must be able to open it.
        num_threads: how many files at a time are worth opening; 1 where nothing is waited for.
    """

    root: str
    num_threads: int

    def entries(self) -> Iterator[Entry]:
        """All files, in any order, and folders that would otherwise not be seen.

        Raises:
            OSError, InputError: the root cannot be listed.
        """
        ...

    def open(self, entry: Entry) -> BinaryIO:
        """For several threads and processes at once.

        Raises:
            OSError: this file cannot be read; others may.
            InputError: nothing can be read, or the data has changed.
        """
        ...


class Remote(Protocol):
    """Opens `s3://` URIs."""

    def file(self, uri: str) -> Path:
        """A whole copy of one file here. Raises InputError."""
        ...

    def folder(self, uri: str) -> Files:
        """The files whose names begin with the URI and a slash. Opens nothing yet."""
        ...


class LocalFiles:
    """A folder of this machine."""

    num_threads = 1

    def __init__(self, root: Path) -> None:
        self._root = root
        self.root = str(root)

    def entries(self) -> Iterator[Entry]:
        yield from _walk(self._root, "", 0)

    def open(self, entry: Entry) -> BinaryIO:
        return open(self._root / entry.name, "rb")


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[Entry]:
    for path in folder.iterdir():
        if path.is_dir():
            yield Entry(f"{prefix}{path.name}/")
            if depth < _FOLLOWED or not path.is_symlink():
                yield from _walk(path, f"{prefix}{path.name}/", depth + 1)
        elif path.is_file():
            yield Entry(prefix + path.name)


def parse_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://BUCKET/KEY`; the key may be empty.

    Raises:
        ValueError: what is wrong with it, without what may be a secret.
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
