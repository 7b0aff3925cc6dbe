"""Image folders inside a zip or tar file, read member by member and never unpacked to named files.

The version of an entry contains the position of its member, so that any process can read it with
the archive's path alone: a million members need no table of contents in each worker.
"""

import bz2
import errno
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from nascore.config import DataConfig
from nascore.data import file_access
from nascore.data.archive_members import (
    Header,
    Member,
    tar_list,
    tar_unpack,
    zip_content,
    zip_members,
)
from nascore.data.file_access import FileEntry, changed
from nascore.data.findings import Tally, refusal
from nascore.errors import InputError, Problem

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_OTHER_ENDINGS = (".7z", ".rar", ".tar.zst")
_COMPRESSIONS: dict[bytes, Any] = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ": lzma}
_BLOCK = 2**20
_MOST_FILLING = 64 * 2**20  # bytes behind the end of an archive that are still looked at
_MOST_COMPRESSED = 20  # images are compressed already
# What zipfile, tarfile and the decompressors raise on archives that are damaged.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)


def is_archive_name(name: str) -> bool:
    """Return whether a path or URI names an archive that can be read as a folder."""
    return name.lower().endswith(ENDINGS)


def is_unreadable_archive_name(name: str) -> bool:
    """Return whether a path names an archive of a kind that cannot be read."""
    return name.lower().endswith(_OTHER_ENDINGS)


class ArchiveFiles:
    """The files in an archive as `nascore.data.file_access.Files`.

    Args:
        path: the archive on this machine.
        root: path or URI that later steps open; by default the path.
        config: limits of unpacking; without it only members that were listed before are opened.

    Raises:
        InputError: On listing: the archive is damaged, unsafe or too large.
    """

    num_threads = 1

    def __init__(self, path: Path, *, root: str | None = None, config: DataConfig | None = None):
        self._path = path
        self.root = root or str(path)
        self._config = config or DataConfig()
        self._unpacked: BinaryIO | None = None
        self.is_compressed_whole = False

    def entries(self) -> Iterator[FileEntry]:
        members = _Members(self._config, archive_bytes=self._path.stat().st_size)
        try:
            # A tar whose last member is a zip ends as a zip does.
            if not _begins_as_tar(self._path) and zipfile.is_zipfile(self._path):
                members.take(zip_members(self._path))
            elif tarfile.is_tarfile(self._path):
                members.take(self._tar_members(members))
            else:
                raise refusal(
                    self._config, "archive", "is neither a zip nor a tar file; write it again"
                )
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                message = f"does not fit on the disk of {tempfile.gettempdir()} when unpacked"
                raise refusal(
                    self._config, "archive", f"{message}; write it as .zip or .tar"
                ) from error
            message = f"is damaged or cut short ({error}); copy or write it again"
            raise refusal(self._config, "archive", message) from error
        return iter(members.checked())

    def open(self, entry: FileEntry) -> BinaryIO:
        kind, *numbers = entry.version.split(".")
        if kind == "zip":
            return io.BytesIO(zip_content(self._path, *map(int, numbers)))
        offset, size, modified = map(int, numbers)
        if self._unpacked is not None:
            return io.BytesIO(os.pread(self._unpacked.fileno(), size, offset))
        with open(self._path, "rb") as file:
            if os.fstat(file.fileno()).st_mtime_ns != modified:
                raise InputError([changed(self.root)])
            file.seek(offset)
            return io.BytesIO(file.read(size))

    def _tar_members(self, members: "_Members") -> Iterator["Member"]:
        with open(self._path, "rb") as file:
            modified = os.fstat(file.fileno()).st_mtime_ns
            try:
                with tarfile.open(fileobj=file, mode="r:", tarinfo=Header) as archive:
                    yield from tar_list(archive, modified)
                return
            except tarfile.ReadError as error:
                if _begins_as_tar(self._path):  # it is not compressed, so it is damaged
                    raise
                reason = error
        self.is_compressed_whole = True
        members.limit = self._config.max_unpacked_mb * 2**20
        with _decompressed(self._path, reason) as content:
            with tarfile.open(fileobj=content, mode="r|", tarinfo=Header) as archive:
                self._unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as this is)
                yield from tar_unpack(archive, self._unpacked, self._config)
            _read_to_end(content)


def _begins_as_tar(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(262)[257:] == b"ustar"


def _decompressed(path: Path, reason: tarfile.ReadError) -> BinaryIO:
    """Return the content of a compressed tar; its first bytes name the compression."""
    with open(path, "rb") as file:
        start = file.read(6)
    for signature, module in _COMPRESSIONS.items():
        if start.startswith(signature):
            opened: BinaryIO = module.open(path, "rb")
            return opened
    raise reason


def _read_to_end(content: BinaryIO) -> None:
    """Read the rest of a compressed file, whose checksums are at its end."""
    for _ in range(_MOST_FILLING // _BLOCK):
        if not content.read(_BLOCK):
            return


class _Members:
    """Members of an archive, and checks whether it may be read.

    Attributes:
        limit: bytes that all members may have together when unpacked.
    """

    def __init__(self, config: DataConfig, *, archive_bytes: int) -> None:
        self._config = config
        # What is read member by member needs no room: only a bomb is many times its archive.
        self.limit = max(config.max_unpacked_mb * 2**20, _MOST_COMPRESSED * archive_bytes)
        self._entries: list[FileEntry] = []
        self._unsafe, self._large = Tally(), Tally()
        self._num_bytes = 0

    def take(self, members: Iterable[Member]) -> None:
        """Add members; unsafe and too large ones are counted instead."""
        for member in members:
            name, fault = _safe_name(member.name)
            if fault or member.unsafe:
                self._unsafe.add(member.name, fault or member.unsafe)
                continue
            self._num_bytes += member.size
            if self._num_bytes > self.limit:
                limit = f"data.max_unpacked_mb = {self._config.max_unpacked_mb}"
                raise refusal(
                    self._config,
                    "archive",
                    f"unpacks to more than {limit} allows; raise it if it may",
                )
            if member.size > file_access.MAX_FILE_BYTES:
                self._large.add(name, f"{member.size / 2**20:,.0f} MB")
            elif name:
                self._entries.append(
                    FileEntry(f"{name}/") if member.is_folder else FileEntry(name, member.version)
                )

    def checked(self) -> list[FileEntry]:
        """Return the entries of all members.

        Raises:
            InputError: There is a member that must not be read.
        """
        problems: list[Problem] = []
        if self._unsafe.count:
            message = (
                "has {count} members that would leave its folder or are links: {examples}; "
                "write the archive from the files themselves"
            )
            problems.append(self._unsafe.finding(self._config, "unsafe-archive", message))
        if self._large.count:
            message = (
                "has {count} files of more than 512 MB, which no image has: {examples}; remove them"
            )
            problems.append(self._large.finding(self._config, "too-large", message))
        names = Counter(entry.name for entry in self._entries if not entry.name.endswith("/"))
        twice = Tally()
        for name, count in names.items():
            if count > 1:
                twice.add(name)
        if twice.count:
            message = "has {count} files twice: {examples}; write the archive again"
            problems.append(twice.finding(self._config, "unsafe-archive", message))
        if problems:
            raise InputError(problems)
        return self._entries


def _safe_name(name: str) -> tuple[str, str]:
    """Return the name without `./` and with slashes, also from Windows, and the fault of it."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        return name, "leads upwards"
    if name.startswith(("/", "\\")) or (parts and parts[0][1:2] == ":"):
        return name, "is absolute"
    return str(PurePosixPath(*parts)) if parts else "", ""
