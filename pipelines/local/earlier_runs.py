"""Events that earlier runs of this machine could not send, and their sending during a later run.

Each run is listed, as a link to its spool, in `nas/spools` below `XDG_STATE_HOME` or
`~/.local/state`, until all of its events are sent. The next run that uses the same store starts a
process that sends what the ended ones have kept. It takes a minute at most, has a lower priority
than the run, and ends with the run at the latest. The lock of a spool keeps two such processes
apart.
"""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from components.tracking.flush import store_of
from components.tracking.lost_runs import is_left

LOCK = ".lock"
"""File in the folder of a run, locked as long as a process of the run lives."""
LATER = "the next run on this machine that uses the same store sends them"
_LIMIT_S = 60.0
_END_S = 2.0


def remember(spool: Path) -> bool:
    """List the spool of a run that begins; return whether that was possible."""
    try:
        link = _link(spool)
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # the run is resumed
            link.symlink_to(spool.absolute())
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return False
    return True


def forget_sent(spool: Path) -> bool:
    """Remove the spool of an ended run from the list if nothing is left; return whether it is."""
    try:
        if spool.is_dir() and is_left(spool):
            return True
        _link(spool).unlink(missing_ok=True)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError):
        pass  # a spool that is damaged or not readable stays in the list, and is left alone
    return False


def unsent_spools(spool: Path) -> list[Path]:
    """Return the spools of ended runs that hold events for the same store as `spool`."""
    try:
        links = sorted(_folder().iterdir(), key=lambda link: link.lstat().st_mtime)
    except (OSError, RuntimeError):  # no such folder, or no home
        return []
    store = store_of(spool)
    found = []
    for link in links:
        earlier = link.readlink()
        if earlier == spool.absolute() or _is_running(earlier.parent):
            continue
        if forget_sent(earlier) and store is not None and store_of(earlier) == store:
            found.append(earlier)
    return found


@contextlib.contextmanager
def sending_earlier(spool: Path) -> Iterator[None]:
    """Send what earlier runs have kept for the store of `spool` while the block runs."""
    spools = unsent_spools(spool)
    if not spools:
        yield
        return
    command = [sys.executable, "-m", "components.tracking.flush", f"--limit-s={_LIMIT_S:g}"]
    process = subprocess.Popen([*command, *map(str, spools)], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        _end(process)
        for one in spools:
            forget_sent(one)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process wherever it is: what it has not sent is kept."""
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _folder() -> Path:
    given = os.environ.get("XDG_STATE_HOME")
    return (Path(given) if given else Path.home() / ".local" / "state") / "nas" / "spools"


def _link(spool: Path) -> Path:
    return _folder() / hashlib.sha256(os.fsencode(spool.absolute())).hexdigest()[:16]


def _is_running(folder: Path) -> bool:
    """Return whether a process of the run in a folder lives; it holds the lock of the folder."""
    try:
        with open(folder / LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # locked, or not readable
        return True
    return False
