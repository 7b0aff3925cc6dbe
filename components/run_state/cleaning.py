"""Find and remove old states of runs; leave and report what is not such a state.

The newest object or file decides about the age of a state. A manifest (object store) or a marker
(volume) of this project identifies it.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nascore.data.file_access import S3
from nascore.errors import InputError

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Size:
    """Contents of a state; `newest` is when the last of it was written, in seconds since 1970."""

    num_files: int
    num_bytes: int
    newest: float


@dataclass(frozen=True, slots=True)
class Left:
    """Something that was left, and why."""

    name: str
    reason: str


class InUse(Exception):
    """A state has changed since it was found old."""


class FoundState(Protocol):
    """The state of a run in some place."""

    run_id: str

    def size(self) -> Size: ...

    def confirm(self) -> list[Left]:
        """Leave out the parts that are not ours, and return them. Raises InputError."""
        ...

    def remove(self) -> None:
        """Remove the rest. Raises InUse or InputError."""
        ...


@dataclass(frozen=True, slots=True)
class Removed:
    """A state that was removed, or would be in a dry run."""

    run_id: str
    num_files: int
    num_bytes: int
    age_days: float


@dataclass(slots=True)
class Cleaned:
    """The result of `clean`.

    Attributes:
        num_kept: states that are too new.
        skipped: what is not ours, or in use.
        failed: what could not be removed.
    """

    removed: list[Removed] = field(default_factory=list)
    num_kept: int = 0
    skipped: list[Left] = field(default_factory=list)
    failed: list[Left] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        return sum(state.num_bytes for state in self.removed)


def clean(root: str, *, older_than_days: float, dry_run: bool) -> Cleaned:
    """Remove the states of runs that are older than so many days.

    Args:
        root: `s3://BUCKET/PREFIX`, or a folder.
        dry_run: find them only.

    Raises:
        InputError: the place cannot be read.
    """
    done = Cleaned()
    for state in _find(root):
        if isinstance(state, Left):
            done.skipped.append(state)
            continue
        age_days = (time.time() - state.size().newest) / DAY_S
        if age_days < older_than_days:
            done.num_kept += 1
        else:
            _clean_one(state, age_days, done, dry_run=dry_run)
    return done


def _find(root: str) -> Iterable[FoundState | Left]:
    if root.startswith(S3):
        from components.run_state.bucket_states import bucket_states  # boto3: a third of a second

        return bucket_states(root)
    from components.run_state.folder_states import folder_states

    return folder_states(Path(root))


def _clean_one(state: FoundState, age_days: float, done: Cleaned, *, dry_run: bool) -> None:
    try:
        done.skipped += state.confirm()
        size = state.size()
        if size.num_files == 0:
            return
        if not dry_run:
            state.remove()
        done.removed.append(Removed(state.run_id, size.num_files, size.num_bytes, age_days))
    except InUse:
        done.skipped.append(Left(state.run_id, "is in use: it has changed since it was found old"))
    except InputError as error:
        done.failed.append(Left(state.run_id, str(error)))
