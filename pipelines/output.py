"""The output folder of a run: claimed, resumed, and left as it was when the input is wrong."""

import json
import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from components.config import Config, dumps
from components.tracking.stores import absolute
from nascore.errors import InputError, Problem
from pipelines.config import differences
from pipelines.local import CONFIG, PROGRESS

_KEY = "--out"
_NEEDED_BYTES = 256 * 2**20  # prepared data, study, weights, report and log of a small run


def default_folder() -> Path:
    return Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")


def absolute_store(config: Config) -> Config:
    """The configuration with an SQLite store named by its full path, which all steps can open."""
    uri = absolute(config.tracking.uri)
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": uri})})


class Output:
    """Claims a folder for one run.

    Args:
        folder: must be empty or absent, unless `resume`.
        resume: go on with what is there; the configuration must be the one it was begun with.

    Raises:
        InputError: the folder cannot be used.
    """

    def __init__(self, folder: Path, config: Config, *, resume: bool) -> None:
        self.folder = folder.absolute()
        problems = self._resume_problems(config) if resume else self._fresh_problems()
        if problems:
            raise InputError(problems)
        self._made = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
        self._resumed = resume
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            self.undo()
            raise InputError.of(_KEY, folder, f"cannot be written ({error.strerror})") from error
        free = shutil.disk_usage(self.folder).free
        if free < _NEEDED_BYTES:
            self.undo()
            raise InputError.of(
                _KEY,
                folder,
                f"the disk has {free / 2**20:.0f} MB free, a run needs at least "
                f"{_NEEDED_BYTES / 2**20:.0f} MB; free some or choose another disk",
            )
        (self.folder / PROGRESS).unlink(missing_ok=True)
        (self.folder / CONFIG).write_text(dumps(config))

    def undo(self) -> None:
        """Takes back what this run has made: nothing is left of a run whose input was wrong."""
        if self._resumed:
            return
        if self.folder.exists():
            for path in self.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self._made:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()

    def _fresh_problems(self) -> list[Problem]:
        if self.folder.is_dir() and any(self.folder.iterdir()):
            return [
                Problem(
                    _KEY,
                    str(self.folder),
                    "is not empty; nothing is overwritten: choose another folder, or add --resume "
                    "to go on with this run",
                )
            ]
        if self.folder.exists() and not self.folder.is_dir():
            return [Problem(_KEY, str(self.folder), "is a file; name a folder")]
        existing = next(p for p in self.folder.parents if p.exists())
        if not self.folder.exists() and not os.access(existing, os.W_OK | os.X_OK):
            return [Problem(_KEY, str(self.folder), f"cannot be made: {existing} is not writable")]
        return []

    def _resume_problems(self, config: Config) -> list[Problem]:
        path = self.folder / CONFIG
        if not path.is_file():
            return [
                Problem(
                    "--resume",
                    str(self.folder),
                    "holds no run (no config.json); name its folder with --out",
                )
            ]
        return differences(json.loads(path.read_text()), json.loads(dumps(config)))
