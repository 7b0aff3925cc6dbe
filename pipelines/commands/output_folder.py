"""Check of the folder that `--out` names, before minutes of work."""

from pathlib import Path

from nascore.errors import Problem
from nascore.files import is_writable


def folder_problems(folder: Path) -> list[Problem]:
    """Return why files cannot be written to a folder, which need not exist."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        return [Problem("--out", str(folder), f"{existing} is a file; name a folder")]
    if not is_writable(existing):
        return [Problem("--out", str(folder), "cannot be written; name another folder")]
    return []
