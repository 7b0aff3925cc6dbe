"""The writing side: events are appended to a file of one's own and never wait for anything.

A spool is a folder: `target.json` (store and experiment), `events/` with one JSON-lines file a writer,
`files/` with what is to be uploaded, and `closed` once nobody writes any more. A run is known by a key
that the writer chooses; its MLflow id is the follower's business.
"""

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

TARGET = "target.json"
EVENTS = "events"
FILES = "files"
CLOSED = "closed"


class TrackedRun:
    """One run; every call appends an event and returns at once."""

    def __init__(self, tracker: "Tracker", key: str) -> None:
        self._tracker = tracker
        self.key = key

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings of the run; nested mappings are flattened with dots."""
        flat = {name: _text(value) for name, value in _flatten(values)}
        self._tracker.append(self.key, "params", values=flat)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers at a step. Infinite ones are left out: MLflow would store 1.8e308 instead."""
        finite = {name: float(v) for name, v in values.items() if not math.isinf(v)}
        self._tracker.append(self.key, "metrics", values=finite, step=step)

    def tags(self, values: Mapping[str, str]) -> None:
        self._tracker.append(self.key, "tags", values=dict(values))

    def artifact(self, path: Path, folder: str = "") -> None:
        """A file or a folder, as it is now: a copy goes into the spool."""
        self._tracker.append(self.key, "artifact", path=self._tracker.keep(path), folder=folder)

    def table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Rows with equal keys, as a table that `mlflow.load_table` reads."""
        columns = list(rows[0]) if rows else []
        data = [[row[column] for column in columns] for row in rows]
        path = self._tracker.keep_text(json.dumps({"columns": columns, "data": data}), name)
        self._tracker.append(self.key, "table", path=path)

    def end(self, status: Literal["FINISHED", "FAILED"] = "FINISHED") -> None:
        self._tracker.append(self.key, "end", status=status)


class Tracker:
    """A writer of a spool; make one with `open`."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        name = f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._file = open(spool / EVENTS / name, "a", encoding="utf-8")  # noqa: SIM115

    @classmethod
    def open(cls, spool: Path, *, uri: str, experiment: str) -> "Tracker":
        """Makes the spool when it is not there.

        Args:
            uri: MLflow store that the events are for.
            experiment: name of the MLflow experiment.
        """
        for folder in (EVENTS, FILES):
            (spool / folder).mkdir(parents=True, exist_ok=True)
        target = spool / TARGET
        if not target.exists():
            temporary = spool / f".{TARGET}.{os.getpid()}"
            temporary.write_text(json.dumps({"uri": uri, "experiment": experiment}))
            os.replace(temporary, target)
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
        """Declares a run; whoever names the same key writes to the same run.

        Args:
            parent: key of the run that this one hangs below; declare it first.
            adopt: id of an MLflow run that somebody else made and will end (KFP's MLflow plugin).
            adopt_parent_of: id of such a run, whose parent this is.
        """
        self.append(
            key,
            "run",
            name=name,
            parent=parent,
            values=dict(tags or {}),
            adopt=adopt,
            adopt_parent_of=adopt_parent_of,
        )
        return TrackedRun(self, key)

    def append(self, key: str, op: str, **fields: Any) -> None:
        """One event, one write: a process that dies leaves at most a torn last line."""
        event = {"run": key, "op": op, "time_ms": time.time_ns() // 1_000_000, **fields}
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def keep(self, path: Path) -> str:
        """Puts a file or folder into the spool (hard links where possible); its name there."""
        folder = self._spool / FILES / uuid.uuid4().hex
        folder.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy2(path, folder / path.name)
        return str((folder / path.name).relative_to(self._spool))

    def keep_text(self, text: str, name: str) -> str:
        folder = self._spool / FILES / uuid.uuid4().hex
        folder.mkdir(parents=True)
        (folder / name).write_text(text, encoding="utf-8")
        return str((folder / name).relative_to(self._spool))

    def close(self) -> None:
        """Everything written reaches the disk."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()


@contextlib.contextmanager
def follower(spool: Path, *, grace_s: float = 60.0) -> Iterator[None]:
    """Replays the spool to MLflow in a process of its own while the block runs.

    At the end the follower gets `grace_s` seconds for what is left; what it cannot send stays in the
    spool, and it says how to send it later.
    """
    (spool / CLOSED).unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "components.tracking.follow", "--spool", str(spool)]
    )
    try:
        yield
    finally:
        (spool / CLOSED).touch()
        try:
            process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
