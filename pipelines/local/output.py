"""Output folder of a run: creation, locking, resuming, and removal if the input is wrong."""

import contextlib
import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from components.config.errors import short
from components.config.schema import Config, dumps, loads
from components.tracking.store_checks import absolute
from nascore.data.file_access import S3
from nascore.errors import InputError, Problem
from nascore.files import is_writable, lock_fault, replacing
from nascore.redaction import redact, redact_setting
from nascore.steady_clock import since_epoch_s
from pipelines.config import differences
from pipelines.local.earlier_runs import LOCK
from pipelines.local.events import ProgressFile
from pipelines.local.run import CONFIG, PROGRESS, RESULT
from pipelines.local.timings import timings_of

_KEY = "--out"
STUDY_VARIABLE = "NAS_STUDY_URL"
_NEEDED_BYTES = 256 * 2**20  # prepared data, study, weights, report and log of a small run


def default_folder() -> Path:
    """Return `runs/<time>`, with a number if that exists."""
    folder = Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in range(2, 1000))
    return folder if not folder.exists() else next(path for path in numbered if not path.exists())


def settle_stores(config: Config) -> Config:
    """Return the configuration with absolute paths and without secrets.

    Passwords in the addresses of the study's database and of the tracking server are moved into
    environment variables of the steps, so that no file contains them.

    Raises:
        InputError: an address contains a secret that cannot be moved.
    """
    uri = _without_account(absolute(config.tracking.uri))
    tracking = config.tracking.model_copy(update={"uri": uri})
    storage = config.search.storage
    if storage is not None and redact_setting(storage) != storage:
        os.environ[STUDY_VARIABLE] = storage
        storage = f"env:{STUDY_VARIABLE}"
    elif storage is not None:
        storage = absolute(storage)
    search = config.search.model_copy(update={"storage": storage})
    root = config.promote.export_to
    if root is not None and not root.startswith(S3):
        root = str(Path(root).expanduser().resolve())
    promote = config.promote.model_copy(update={"export_to": root})
    return config.model_copy(update={"tracking": tracking, "search": search, "promote": promote})


def _without_account(uri: str) -> str:
    """Return the address of the tracking server without the account, which goes into variables."""
    if redact_setting(uri) == uri:
        return uri
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not (parts.username and parts.password):
        raise InputError.of(
            "tracking.uri",
            redact_setting(uri),
            "holds a secret, which the files of the run would show; leave it out and give it by "
            "the environment (MLFLOW_TRACKING_TOKEN to a server, PGPASSWORD to PostgreSQL)",
        )
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def saved_config(folder: Path, key: str = "--resume") -> Config:
    """Return the configuration with which a run was started.

    Args:
        folder: folder of the run.
        key: argument that names the folder.

    Raises:
        InputError: there is none, or it is not of this version.
    """
    path = folder / CONFIG
    try:
        return loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        message = f"holds no run (no {CONFIG}); name the folder of a run"
        raise InputError.of(key, folder, message) from error
    except (OSError, ValueError) as error:
        raise InputError.of(key, path, f"cannot be read ({error})") from error


def problems_with(
    folder: Path, config: Config, *, resume: bool, given: Collection[str] = ()
) -> list[Problem]:
    """Return why a run cannot be written to a folder; nothing is changed.

    Args:
        folder: output folder.
        config: configuration of the run.
        resume: whether to resume the run in the folder, which needs the same configuration.
        given: keys of the settings that were not left to preset and defaults.
    """
    if resume:
        try:
            begun_with = saved_config(folder)
        except InputError as error:
            return list(error.problems)
        changed = differences(json.loads(dumps(begun_with)), json.loads(dumps(config)))
        problems = _changes(folder, changed, given)
    else:
        problems = check_fresh(folder)
    return problems or _disk_problems(folder.absolute())


def _changes(
    folder: Path, changed: Mapping[str, tuple[Any, Any]], given: Collection[str]
) -> list[Problem]:
    """Return which settings contradict the run that is resumed.

    Another method changes many settings, and so does another preset: reported are the method, else
    the given settings, else the first one.
    """
    remedy = "resume it without settings, or start another run with another --out"
    if "method" in changed:
        before, after = changed["method"]
        return [Problem("method", after, f"{folder} is a run of {before}; {remedy}")]
    asked = [key for key in changed if any(f"{key}.".startswith(f"{one}.") for one in given)]
    # A budget replaces another as a whole, and the limits that it has not are null.
    chosen = [key for key in asked if changed[key][1] is not None] or asked or list(changed)[:1]
    return [
        Problem(
            key,
            _shown(changed[key][1]),
            f"{folder} is a run with {key} = {_shown(changed[key][0])}; {remedy}",
        )
        for key in chosen
    ]


def _shown(value: Any) -> str:
    return "null" if value is None else short(value)


def check_fresh(folder: Path) -> list[Problem]:
    """Return why a new run cannot be written to a folder: it is not empty, or not a folder."""
    if str(folder).startswith("s3:/"):  # a path has no two slashes in a row
        message = (
            "a run is kept in a folder of this machine; its results are copied to S3 with "
            "promote.export_to=s3://BUCKET/PREFIX"
        )
        return [Problem(_KEY, redact(str(folder).replace("s3:/", S3, 1)), message)]
    folder = folder.absolute()
    if folder.is_dir() and any(folder.iterdir()):
        message = (
            "is not empty, and nothing is overwritten: choose another folder, or resume the run in "
            f"it with nas run --resume --out {shlex.quote(str(folder))}"
        )
        return [Problem(_KEY, str(folder), message)]
    if folder.exists() and not folder.is_dir():
        return [Problem(_KEY, str(folder), "is a file; name a folder")]
    return []


def _disk_problems(folder: Path) -> list[Problem]:
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        return [Problem(_KEY, str(folder), f"cannot be made: {existing} is a file")]
    if not is_writable(existing):
        message = f"cannot be written: {existing} is not writable; choose another folder"
        return [Problem(_KEY, str(folder), message)]
    fault = lock_fault(existing)
    if fault:
        message = (
            f"its file system has no locks ({fault}), which keep two runs apart; choose a folder "
            "on another disk (for NFS, mount with lockd or with -o local_lock=flock)"
        )
        return [Problem(_KEY, str(folder), message)]
    free = shutil.disk_usage(existing).free
    if free < _NEEDED_BYTES:
        message = (
            f"the disk has {free / 2**20:.0f} MB free and a run needs at least "
            f"{_NEEDED_BYTES / 2**20:.0f} MB; free some or choose another disk"
        )
        return [Problem(_KEY, str(folder), message)]
    return []


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


class Output:
    """Output folder of a run, locked against other runs.

    Attributes:
        folder: absolute path.
        lock: file descriptor; the folder is locked as long as any process holds it open.

    Raises:
        InputError: another process runs in it, or it cannot be written.
    """

    def __init__(self, folder: Path, config: Config, *, resume: bool) -> None:
        self.folder = folder.absolute()
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self._resumed = resume
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            self._remove_made()
            raise InputError.of(_KEY, folder, f"cannot be written ({error.strerror})") from error
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self.lock)
            raise InputError.of(
                _KEY, folder, "another process runs in it; wait for its end, or stop it"
            ) from error
        (self.folder / PROGRESS).unlink(missing_ok=True)
        self._write_config(config)

    def _write_config(self, config: Config) -> None:
        try:
            with replacing(self.folder / CONFIG) as temporary:
                temporary.write_text(dumps(config), encoding="utf-8")
        except OSError as error:
            os.close(self.lock)
            self.undo()
            message = f"cannot be written ({error.strerror}); free space or choose another folder"
            raise InputError.of(_KEY, self.folder, message) from error

    def undo(self) -> None:
        """Remove what this run has created, after wrong input; a resumed run is left as it is."""
        if self._resumed:
            return
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._remove_made()

    def _remove_made(self) -> None:
        for path in self._made:
            with contextlib.suppress(OSError):  # another process uses it by now
                path.rmdir()

    def finish(self, total_s: float) -> dict[str, Any]:
        """Add the times of the whole command to `result.json` and return its content.

        `overhead` is the time that was neither data loading nor training nor profiling.
        """
        path = self.folder / RESULT
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        events = ProgressFile(self.folder / PROGRESS).new()
        timings = timings_of(events, start_s=since_epoch_s() - total_s, total_s=total_s)
        result["seconds"] |= {"total": timings["total_s"], "overhead": timings["overhead_s"]}
        result["timings"] = timings
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(result, indent=2), encoding="utf-8")
        return result
