"""The files of a state folder as they were at one moment, while other processes write there.

Contents are not read here: a file is held by a hard link, which keeps the old content when the file
is replaced. What is written in place is copied: databases by SQLite's backup, and files that only
grow (`*.jsonl`, `*.log`) up to their last whole line. Only regular files are state; names with a
leading dot are temporary, and what SQLite keeps next to a database is part of the copy.
"""

import os
import random
import re
import shutil
import sqlite3
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE, S_ISREG

from components.run_state.reference import KEY
from nascore.errors import ResourceUnavailable

Stamp = tuple[int, int, int]
"""Inode, size and time of the last change in nanoseconds."""
Stamps = tuple[Stamp | None, ...]

_LATER = ("outputs", "spool")  # what is needed of a step that has succeeded
_SIDECAR = re.compile(r".+\.db-(wal|shm|journal)")
_MAGIC = b"SQLite format 3\0"
_GROWING = (".jsonl", ".log")
_ATTEMPTS = 20
_PAUSE_S = 0.01
_LOCKED_S = 10.0
_POLL_S = 0.05
_DONE = 101  # SQLite's code for a copy that is complete
_SETTLED_NS = 10**9  # file systems count time in steps; a later change might bear the same time


class FileChanged(Exception):
    """A file was written while it was read."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file as it was.

    Attributes:
        path: below the state folder, with slashes.
        stamps: what it is known by.
        source: where its content can be read; None when the stamps were known.
        is_link: the source is the file itself, which may still be written in place.
        is_settled: a later change would give other stamps.
    """

    path: str
    stamps: Stamps
    mode: int
    source: Path | None
    is_link: bool
    is_settled: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state folder at one moment; `folders` are those without a file."""

    files: tuple[Taken, ...]
    folders: tuple[str, ...]


def take_snapshot(
    folder: Path, place: Path, *, known: Mapping[str, Stamps], done: bool = False
) -> Snapshot:
    """Hold the files of a folder so that all are of one moment.

    All files are taken, one after the other; then everything but the file that was taken last must
    still be as it was, else what has changed is taken again. So the result is what was there when
    that last file was taken.

    Args:
        place: an empty folder in the same file system, for links and copies.
        known: stamps of files whose contents the caller knows; these are not taken.
        done: only what is needed once the step has succeeded.

    Raises:
        FileChanged: files change faster than they can be taken.
        ResourceUnavailable: a file cannot be read.
    """
    taken: dict[str, Taken] = {}
    last = ""
    for attempt in range(_ATTEMPTS):
        try:
            files, _ = _list(folder, done=done)
            taken = {path: item for path, item in taken.items() if path in files}
            for path in _stale(folder, files, taken):
                target = place / f"{attempt}-{files[path]}"
                taken[path], last = _take(folder / path, path, target, known.get(path)), path
            files, folders = _list(folder, done=done)
            if taken.keys() == files.keys() and set(_stale(folder, files, taken)) <= {last}:
                return Snapshot(tuple(taken[path] for path in sorted(taken)), tuple(folders))
        except FileNotFoundError:  # removed since it was listed
            pass
        except OSError as error:
            raise ResourceUnavailable.of(
                KEY, folder, f"cannot be read ({error}); free space or correct the rights"
            ) from error
        time.sleep(random.uniform(0, attempt * _PAUSE_S))  # not in step with who writes
    raise FileChanged(last or str(folder))


def is_unchanged(item: Taken) -> bool:
    """Return whether a link still holds what was there when it was made."""
    assert item.source is not None
    return not item.is_link or _stamp(item.source) == item.stamps[0]


# --- which files ------------------------------------------------------------------------------


def _list(folder: Path, *, done: bool) -> tuple[dict[str, int], list[str]]:
    """Return the files, each with a number, and the folders without any.

    A folder is listed before its content: a listing with `outputs/done.json`, which is written
    last, has all other outputs.
    """
    files: dict[str, int] = {}
    empty = []
    for path, folders, names in os.walk(folder, onerror=_raise):
        here = Path(path)
        is_top = here == folder
        folders[:] = sorted(name for name in folders if _is_wanted(here / name))
        if is_top and done:
            folders[:] = [name for name in folders if name in _LATER]
            names = [name for name in names if name.endswith(".json")]
        found = [name for name in sorted(names) if _is_wanted(here / name)]
        for name in found:
            if S_ISREG((here / name).lstat().st_mode):
                files[(here / name).relative_to(folder).as_posix()] = len(files)
        if not found and not folders and not is_top:
            empty.append(here.relative_to(folder).as_posix())
    return files, empty


def _raise(error: OSError) -> None:
    raise error


def _is_wanted(path: Path) -> bool:
    return not path.name.startswith(".") and not _SIDECAR.fullmatch(path.name)


def _stale(folder: Path, files: Mapping[str, int], taken: Mapping[str, Taken]) -> list[str]:
    """Return what is not taken as it is now.

    Growing files come first: events of work that the rest does not know would come twice. Databases
    come last, since they change most often.
    """
    ranks = {path: 0 if _grows(path) else 2 if path.endswith(".db") else 1 for path in files}
    paths = sorted(files, key=lambda path: (ranks[path], path))
    return [path for path in paths if _is_stale(folder, path, taken.get(path))]


def _grows(path: str) -> bool:
    return path.endswith(_GROWING)


# --- one file ---------------------------------------------------------------------------------


def _is_stale(folder: Path, path: str, item: Taken | None) -> bool:
    if item is None:
        return True
    return not _grows(path) and stamps_of(folder / path) != item.stamps


def stamps_of(path: Path) -> Stamps:
    """Return what a file is known by, the files that SQLite keeps next to it included."""
    if not path.name.endswith(".db"):
        return (_stamp(path),)
    sidecars = (path.with_name(f"{path.name}-{kind}") for kind in ("wal", "journal"))
    return (_stamp(path), *(_stamp_or_none(sidecar) for sidecar in sidecars))


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _stamp_or_none(path: Path) -> Stamp | None:
    try:
        return _stamp(path)
    except FileNotFoundError:
        return None


def _take(path: Path, name: str, target: Path, known: Stamps | None) -> Taken:
    stamps, mode, now = stamps_of(path), S_IMODE(path.stat().st_mode) & 0o777, time.time_ns()
    if stamps == known:
        return Taken(name, stamps, mode, None, is_link=False, is_settled=True)
    if path.name.endswith(".db") and _is_database(path):
        _back_up(path, target)
        is_link = False
    elif _grows(name):
        _copy_lines(path, target)
        is_link = False
    else:
        is_link = _link_or_copy(path, target)
    if is_link:  # the file may have been replaced since it was looked at
        stamps = (_stamp(target), *stamps[1:])
    settled = all(stamp is None or stamp[2] < now - _SETTLED_NS for stamp in stamps)
    return Taken(name, stamps, mode, target, is_link, settled)


def _is_database(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _back_up(path: Path, target: Path) -> None:
    """Copy a database as of one transaction, also while it is written."""
    end = time.monotonic() + _LOCKED_S

    def give_up(status: int, remaining: int, total: int) -> None:
        if status != _DONE and time.monotonic() > end:
            raise TimeoutError(f"{path.name} was locked for {_LOCKED_S:g} s")

    source_uri = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=rw"
    try:
        source = sqlite3.connect(source_uri, uri=True, timeout=_POLL_S)
        copy = sqlite3.connect(target)
        try:
            source.backup(copy, progress=give_up, sleep=_POLL_S)
        finally:
            copy.close()
            source.close()
    except sqlite3.Error as error:
        if not path.exists():
            raise FileNotFoundError(path) from error
        raise ResourceUnavailable.of(
            KEY, path, f"SQLite cannot copy it ({error}); the state is not saved as it is"
        ) from error


def _copy_lines(path: Path, target: Path) -> None:
    content = path.read_bytes()
    target.write_bytes(content[: content.rfind(b"\n") + 1])


def _link_or_copy(path: Path, target: Path) -> bool:
    """Return whether it is a link; not every file system has them."""
    try:
        os.link(path, target)
        return True
    except FileNotFoundError:
        raise
    except OSError:
        for _ in range(_ATTEMPTS):
            before = _stamp(path)
            shutil.copyfile(path, target)
            if _stamp(path) == before:
                return False
        raise FileChanged(path.name) from None
