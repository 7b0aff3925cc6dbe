"""The writing side of a spool: events are appended to a file and never wait for a server.

A spool is a folder: `target.json` (store and experiment), `events/` with one JSON-lines file for
each writer, `files/` with files to upload, and `closed` once no process writes any more. A run has
a key that the writer chooses; only the follower knows its MLflow id.
"""

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from components.tracking.tracked_run import TrackedRun, flatten, text_of
from nascore.errors import InputError
from nascore.files import replacing
from nascore.redaction import redact
from nascore.steady_clock import since_epoch_ns

TARGET = "target.json"
EVENTS = "events"
FILES = "files"
CLOSED = "closed"

_SYNC_EVERY_S = 1.0
_KEY = re.compile(r"[\w.:/-]{1,200}")


class Tracker:
    """A writer of a spool; each process makes one with `open`.

    Args:
        spool: its folder, which exists.
        label: end of the name of the file of events.

    Attributes:
        spent_s: time that callers have waited for the spool.
    """

    def __init__(self, spool: Path, label: str = "") -> None:
        self.spool = spool
        end = f"-{label}.jsonl" if label else ".jsonl"
        name = f"{since_epoch_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}{end}"
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
        self.append(
            _checked(key),
            "run",
            name=name,
            parent=parent,
            values={k: redact(str(v)) for k, v in (tags or {}).items()},
            adopt=adopt,
            adopt_parent_of=adopt_parent_of,
        )
        return TrackedRun(self, key)

    def ended_run(
        self,
        key: str,
        *,
        name: str,
        parent: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        seconds: tuple[float, float] | None,
        has_samples: bool,
        status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED",
    ) -> None:
        """Log a run that is over, such as that of a child, in one event.

        Args:
            key: names the run in this spool.
            name: shown in MLflow.
            parent: key of the run that this one is a child of; declare it first.
            params: of the run.
            metrics: finite metrics by name.
            tags: of the run.
            seconds: start and end since the epoch; None where they are unknown.
            has_samples: whether it ran on this machine, so that the system metrics that were
                sampled between start and end are also those of the run.
            status: how it ended.
        """
        self.append(
            _checked(key),
            "ended_run",
            name=name,
            parent=parent,
            params={k: redact(text_of(value)) for k, value in flatten(params)},
            metrics={k: float(value) for k, value in metrics.items()},
            values={k: redact(str(value)) for k, value in tags.items()},
            between_ms=None if seconds is None else [round(1000 * one) for one in seconds],
            has_samples=has_samples,
            status=status,
        )

    def append(self, key: str, op: str, **fields: Any) -> None:
        """Append an event in one write: a process that dies leaves at most a torn last line."""
        with self._counted():
            event = {"run": key, "op": op, "time_ms": since_epoch_ns() // 1_000_000, **fields}
            self._file.write(json.dumps(event).encode() + b"\n")
            self._file.flush()
            # A killed process loses nothing that was flushed; a power cut at most a second's.
            if time.monotonic() - self._synced_s > _SYNC_EVERY_S:
                self.sync()

    def sync(self) -> None:
        """Write everything appended so far to the disk."""
        os.fsync(self._file.fileno())
        self._synced_s = time.monotonic()

    def keep(self, path: Path, name: str | None = None) -> str:
        """Copy a file or folder into the spool, as `name` where given; return its name there.

        Not a hard link: that would change with a source that is later written in place.
        """
        with self._counted():
            kept = self._new_folder() / (name or path.name)
            if path.is_dir():
                shutil.copytree(path, kept)
            else:
                shutil.copy2(path, kept)
        return str(kept.relative_to(self.spool))

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


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"a run key is letters, digits and . : / _ -, got {key!r}")
    return key


def _write_private(path: Path, text: str) -> None:
    """Write a file that appears whole; only its owner may read it: it may hold a password."""
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(text)
