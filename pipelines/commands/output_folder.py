"""Check of the folder that `--out` names, before minutes of work."""

import tempfile
from pathlib import Path

from nascore.errors import Problem


def folder_problems(folder: Path) -> list[Problem]:
    """Return why files cannot be written to a folder, which need not exist."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        return [Problem("--out", str(folder), f"{existing} is a file; name a folder")]
    try:
        with tempfile.TemporaryFile(dir=existing):
            return []
    except OSError as error:
        message = f"cannot be written ({error.strerror}); name another folder"
        return [Problem("--out", str(folder), message)]
