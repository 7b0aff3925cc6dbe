"""Members of zip and tar files: their listing, and reading of one member."""

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nascore.config import DataConfig
from nascore.data import file_access

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_ENCRYPTED = 0x1
_UTF8 = 0x800
_LOCAL_HEADER = 30  # bytes before the name in a zip file's local header
_EndOfArchive: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]


@dataclass(slots=True)
class Member:
    """One entry of the listing of an archive.

    Attributes:
        version: where its content is.
        unsafe: why it must not be read; empty where it may.
    """

    name: str
    version: str
    size: int = 0
    is_folder: bool = False
    unsafe: str = ""


# --- zip ------------------------------------------------------------------------------------


def zip_members(path: Path) -> Iterator[Member]:
    """Yield the members of a zip file."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            unsafe = ""
            if stat.S_ISLNK(info.external_attr >> 16):
                unsafe = "is a link"
            elif info.flag_bits & _ENCRYPTED:
                unsafe = "is encrypted"
            elif info.compress_type not in (_STORED, _DEFLATED):
                unsafe = "is compressed by another method than deflate"
            method = int(info.compress_type == _DEFLATED)
            numbers = (info.header_offset, info.compress_size, info.file_size, method, info.CRC)
            version = ".".join(map(str, ("zip", *numbers)))
            yield Member(
                _zip_name(info),
                version,
                size=info.file_size,
                is_folder=info.is_dir(),
                unsafe=unsafe,
            )


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member; many programs write UTF-8 without the flag for it, which zipfile
    takes for code page 437.
    """
    name = info.orig_filename
    if info.flag_bits & _UTF8 or name.isascii():
        return name
    return os.fsdecode(name.encode("cp437"))


def zip_content(
    path: Path, offset: int, stored_size: int, size: int, is_deflated: int, crc: int
) -> bytes:
    """Return the content of one member, decompressed no further than the size that was listed."""
    with open(path, "rb") as file:
        file.seek(offset)
        header = file.read(_LOCAL_HEADER)
        if header[:4] != b"PK\x03\x04":
            raise OSError("the archive is damaged or has changed; write it again")
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        file.seek(names, os.SEEK_CUR)
        content = file.read(stored_size)
    if is_deflated:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
        except zlib.error as error:
            raise OSError(f"the archive is damaged ({error}); write it again") from error
    if len(content) != size or zlib.crc32(content) != crc:
        raise OSError("its checksum in the archive does not fit; write the archive again")
    return content


# --- tar ------------------------------------------------------------------------------------


class Header(tarfile.TarInfo):
    """Header that records whether an archive has its end mark: at a damaged header or a cut file,
    tarfile only stops, and the members behind it would be missing without an error.
    """

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> "Header":
        try:
            return super().fromtarfile(tarfile)
        except _EndOfArchive:
            tarfile.has_end = True  # type: ignore[attr-defined]
            raise


def _check_end(archive: tarfile.TarFile) -> None:
    if not getattr(archive, "has_end", False):
        raise tarfile.ReadError("it has no mark of its end")


def tar_list(archive: tarfile.TarFile, modified: int) -> Iterator[Member]:
    """Yield the members of an uncompressed tar file."""
    for info in archive:
        archive.members = []  # type: ignore[attr-defined]  # else it keeps all it has seen
        version = f"tar.{info.offset_data}.{info.size}.{modified}"
        yield _tar_member(info, version)
    _check_end(archive)


def tar_unpack(archive: tarfile.TarFile, target: BinaryIO, config: DataConfig) -> Iterator[Member]:
    """Yield the members of a compressed tar file, and write their contents to an unnamed file: such
    an archive cannot be read from its middle.
    """
    for info in archive:
        archive.members = []  # type: ignore[attr-defined]
        member = _tar_member(info, f"tar.{target.tell()}.{info.size}.0")
        is_wanted = info.isreg() and not member.unsafe and info.size <= file_access.MAX_FILE_BYTES
        content = archive.extractfile(info) if is_wanted else None
        if content is not None:
            shutil.copyfileobj(content, target)
            target.flush()
        yield member
    _check_end(archive)


def _tar_member(info: tarfile.TarInfo, version: str) -> Member:
    unsafe = ""
    if info.issym() or info.islnk():
        unsafe = "is a link"
    elif not (info.isreg() or info.isdir()) or info.issparse():
        unsafe = "is no ordinary file"
    return Member(info.name, version, size=info.size, is_folder=info.isdir(), unsafe=unsafe)
