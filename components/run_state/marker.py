"""The file that says that a folder on a volume is the state of a run."""

import json
from pathlib import Path
from typing import Any

from components.run_state.manifest import FORMAT, NEW_RUN, PROJECT, check_origin, project_version
from components.run_state.reference import KEY
from nascore.errors import InputError, ResourceUnavailable
from nascore.files import replacing

MARKER = "nas-state.json"


def mark(folder: Path, run_id: str) -> None:
    """Say in the folder of a run that it is one, or check what is said there.

    Raises:
        InputError: it is the state of another run, or of another version of the project.
        ResourceUnavailable: the folder cannot be written.
    """
    path = folder / MARKER
    try:
        if path.exists():
            _check(path, run_id)
            return
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            "project": PROJECT,
            "format": FORMAT,
            "version": project_version(),
            "run_id": run_id,
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values))
    except OSError as error:
        raise ResourceUnavailable.of(
            KEY, path, f"cannot be read or written ({error}); free space, or correct the rights"
        ) from error


def _check(path: Path, run_id: str) -> None:
    try:
        check_origin(json.loads(path.read_text()), str(path), run_id=run_id)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError.of(
            KEY,
            path,
            f"cannot be read ({type(error).__name__}: {error}); {NEW_RUN}, or remove the folder "
            "that it lies in by hand, and the run starts from its beginning",
        ) from error


def marked_run(folder: Path) -> str | None:
    """Return the id of the run whose state a folder is, of whatever version; None if of none."""
    try:
        values: Any = json.loads((folder / MARKER).read_text())
        return str(values["run_id"]) if values["project"] == PROJECT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
