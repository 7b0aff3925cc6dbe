"""The writing side of a spool: events are appended to a file and never wait for a server.

A spool is a folder: `target.json` (store and experiment), `events/` with one JSON-lines file for
each writer, `files/` with files to upload, and `closed` once no process writes any more. A run has
a key that the writer chooses; only the follower knows its MLflow id.
"""

import contextlib
import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nascore.errors import InputError
from nascore.files import replacing
from nascore.redaction import redact

TARGET = "target.json"
EVENTS = "events"
FILES = "files"
CLOSED = "closed"

_SYNC_EVERY_S = 1.0
_KEY = re.compile(r"[\w.:/-]{1,200}")


class TrackedRun:
    """One run; every call appends an event and returns at once."""

    def __init__(self, tracker: "Tracker", key: str) -> None:
        self._tracker = tracker
        self.key = key

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings without secrets, flattened with dots; values become JSON."""
        flat = {name: redact(_text(value)) for name, value in _flatten(values)}
        self._tracker.append(self.key, "params", values=flat)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step; NaN is kept.

        MLflow would store infinity as 1.8e308, so it is left out and recorded in a tag
        `nas.infinite.<name>`.
        """
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: value for name, value in numbers.items() if not math.isinf(value)}
        if finite:
            self._tracker.append(self.key, "metrics", values=finite, step=int(step))
        if len(finite) < len(numbers):
            left_out = {name: numbers[name] for name in numbers if name not in finite}
            self.tags({f"nas.infinite.{k}": f"{v} at step {step}" for k, v in left_out.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; their values are written without secrets."""
        shown = {name: redact(str(value)) for name, value in values.items()}
        self._tracker.append(self.key, "tags", values=shown)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file or a folder as it is now: a copy goes into the spool."""
        self._tracker.append(self.key, "artifact", path=self._tracker.keep(path), folder=folder)

    def table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Log rows as a table that `mlflow.load_table` reads; a missing or NaN cell is null."""
        columns = list(dict.fromkeys(column for row in rows for column in row))
        data = [[_cell(row.get(column)) for column in columns] for row in rows]
        path = self._tracker.keep_text(json.dumps({"columns": columns, "data": data}), name)
        self._tracker.append(self.key, "table", path=path)

    def end(self, status: Literal["FINISHED", "FAILED"] = "FINISHED") -> None:
        """End the run, unless it was adopted; declaring it again opens it again."""
        self._tracker.append(self.key, "end", status=status)


class Tracker:
    """A writer of a spool; each process makes one with `open`.

    Attributes:
        spent_s: time that callers have waited for the spool.
    """

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        name = f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._file = open(spool / EVENTS / name, "ab")  # noqa: SIM115
        self._synced_s = time.monotonic()
        self.spent_s = 0.0

    @classmethod
    def open(cls, spool: Path, *, uri: str, experiment: str) -> "Tracker":
        """Open a spool, which is made when it does not exist.

        Args:
            spool: its folder.
            uri: MLflow store that the events are for.
            experiment: name of the MLflow experiment.

        Raises:
            InputError: the spool holds events for another store or experiment.
        """
        for folder in (EVENTS, FILES):
            (spool / folder).mkdir(parents=True, exist_ok=True)
        target = {"uri": uri, "experiment": experiment}
        if not (spool / TARGET).exists():
            _write_private(spool / TARGET, json.dumps(target))
        existing = json.loads((spool / TARGET).read_text())
        if existing != target:
            raise InputError.of(
                "tracking",
                f"{redact(uri)}, experiment {experiment}",
                f"{spool} holds events for {redact(existing['uri'])}, experiment "
                f"{existing['experiment']}; keep those settings or use another output folder",
            )
        return cls(spool)

    def run(
        self,
        key: str,
        *,
        name: str,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        adopt: str | None = None,
        adopt_parent_of: str | None = None,
    ) -> TrackedRun:
        """Declare a run; every process that names the same key writes to the same run.

        A run that another system made (KFP's MLflow plugin) can be adopted: it is written to and
        left for that system to end. An id that the store does not know, or that another key has
        adopted, is not taken, and a run of our own is made.

        Args:
            key: names the run in this spool.
            name: shown in MLflow.
            parent: key of the run that this one is a child of; declare it first.
            tags: of the run.
            adopt: MLflow id of such a run.
            adopt_parent_of: MLflow id of such a run; its parent is adopted, or the run itself when
                it has none.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"a run key is letters, digits and . : / _ -, got {key!r}")
        self.append(
            key,
            "run",
            name=name,
            parent=parent,
            values={k: redact(str(v)) for k, v in (tags or {}).items()},
            adopt=adopt,
            adopt_parent_of=adopt_parent_of,
        )
        return TrackedRun(self, key)

    def append(self, key: str, op: str, **fields: Any) -> None:
        """Append an event in one write: a process that dies leaves at most a torn last line."""
        with self._counted():
            event = {"run": key, "op": op, "time_ms": time.time_ns() // 1_000_000, **fields}
            self._file.write(json.dumps(event).encode() + b"\n")
            self._file.flush()
            # A killed process loses nothing that was flushed; a power cut at most a second's.
            if time.monotonic() - self._synced_s > _SYNC_EVERY_S:
                self.sync()

    def sync(self) -> None:
        """Write everything appended so far to the disk."""
        os.fsync(self._file.fileno())
        self._synced_s = time.monotonic()

    def keep(self, path: Path) -> str:
        """Copy a file or folder into the spool; return its name there.

        Not a hard link: that would change with a source that is later written in place.
        """
        with self._counted():
            folder = self._new_folder()
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            else:
                shutil.copy2(path, folder / path.name)
        return str((folder / path.name).relative_to(self.spool))

    def keep_text(self, text: str, name: str) -> str:
        folder = self._new_folder()
        (folder / name).write_text(text, encoding="utf-8")
        return str((folder / name).relative_to(self.spool))

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._file.close()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent_s += time.perf_counter() - start

    def _new_folder(self) -> Path:
        folder = self.spool / FILES / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder


def _write_private(path: Path, text: str) -> None:
    """Write a file that appears whole; only its owner may read it: it may hold a password."""
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(text)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _cell(value: Any) -> Any:
    """Return a value that JSON has, which knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
