"""The states of runs in a folder of a volume: folders with a marker that names the run."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from components.run_state.cleaning import InUse, Left, Size
from components.run_state.marker import MARKER, marked_run
from components.run_state.reference import KEY
from nascore.errors import ResourceUnavailable


def folder_states(root: Path) -> Iterator["FolderState | Left"]:
    """Find `<root>/<run id>` with a marker, and what has none.

    Raises:
        ResourceUnavailable: the folder cannot be read.
    """
    try:
        paths = sorted(root.iterdir())
    except OSError as error:
        raise ResourceUnavailable.of(
            KEY, root, f"cannot be read ({error.strerror}); correct the folder, or its rights"
        ) from error
    for path in paths:
        if path.is_symlink() or marked_run(path) != path.name:
            yield Left(path.name, f"has no {MARKER} that names it as the state of a run")
            continue
        try:
            yield FolderState(path)
        except OSError as error:
            yield Left(path.name, f"cannot be read ({error})")


class FolderState:
    """The state of one run. Raises OSError when it cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.run_id = folder.name
        self._folder = folder
        self._size = _measure(folder)

    def size(self) -> Size:
        return self._size

    def confirm(self) -> list[Left]:
        return []

    def remove(self) -> None:
        """The marker goes last, so that a removal that was cut off can be done again."""
        try:
            if _measure(self._folder) != self._size:
                raise InUse
            for path in self._folder.iterdir():
                if path.name == MARKER:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            (self._folder / MARKER).unlink()
            self._folder.rmdir()
        except OSError as error:
            raise ResourceUnavailable.of(
                KEY, self._folder, f"cannot be removed ({error}); do it as the user of the steps"
            ) from error


def _measure(folder: Path) -> Size:
    """Raises OSError."""
    newest, count = 0.0, 0
    sizes: dict[tuple[int, int], int] = {}  # hard links take room once
    for path, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            found = os.lstat(os.path.join(path, name))
            newest, count = max(newest, found.st_mtime), count + 1
            sizes[found.st_dev, found.st_ino] = found.st_size
    return Size(count, sum(sizes.values()), newest)


def _raise(error: OSError) -> None:
    raise error
