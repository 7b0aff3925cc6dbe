"""Latency table: the wall time of each operation on each input shape, as a file.

An entry is the wall time of one operation (a convolution block, a pooling) on an input of one
shape. The latency of a network is predicted as the sum over its operations, plus the time after the
last of them. A table holds for one device, one number of threads and one version of torch, which it
names; it is refused elsewhere. `nascore.latency.op_profiler` measures it.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nascore.config import SpaceSection
from nascore.errors import InputError, Problem
from nascore.stored import read_stored

VERSION = 1
_WORDS = {
    "space": "search space",
    "space_sha256": "settings of the space (SHA-256)",
    "phase": "networks of phase",
    "channels": "image channels",
    "size": "image size",
    "num_classes": "classes",
    "batch_size": "batch size",
    "device": "device",
    "threads": "threads",
    "torch_version": "torch",
}


@dataclass(frozen=True, slots=True)
class MeasurementConditions:
    """Conditions under which a latency table is valid.

    Attributes:
        space: identifier of the search space.
        space_sha256: hash of its settings, some of which are not in the identifier.
        phase: `search` or `final` networks.
        device: name of the CPU or GPU.
    """

    space: str
    space_sha256: str
    phase: str
    channels: int
    size: int
    num_classes: int
    batch_size: int
    device: str
    threads: int
    torch_version: str


@dataclass(frozen=True, slots=True)
class TableEntry:
    """Wall time of an operation.

    Attributes:
        ms: median over the runs.
        spread_ms: distance between the quartiles.
        runs: number of runs that count.
    """

    ms: float
    spread_ms: float
    runs: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ms) and self.ms >= 0):
            raise ValueError(f"a time must be finite and not negative, got {self.ms}")

    def times(self, factor: float) -> "TableEntry":
        """Return the entry multiplied by a factor."""
        return TableEntry(self.ms * factor, self.spread_ms * factor, self.runs)


@dataclass(frozen=True)
class OperationTable:
    """Times of operations, in milliseconds, and how they were measured.

    Attributes:
        made_for: conditions under which it is valid.
        entries: times by `nascore.latency.operations.unit_key`.
        rest: time from the end of a network's last operation to its output.
        date: ISO 8601, UTC.
        warmup_runs: runs of each network that did not count.
        correction: common factor of all entries (`nascore.latency.op_profiler`).
        disturbed: fraction of the runs that other processes interrupted, which count only where
            there were too few others.
    """

    made_for: MeasurementConditions
    entries: Mapping[str, TableEntry]
    rest: TableEntry
    date: str
    warmup_runs: int
    correction: float
    disturbed: float

    def predict(self, keys: Iterable[str]) -> float:
        """Return the milliseconds of a network with these operations.

        Args:
            keys: its operations, each as often as the network runs it.

        Raises:
            KeyError: An operation is not in the table.
        """
        return math.fsum(self.entries[key].ms for key in keys) + self.rest.ms

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the operations that the table lacks, each once."""
        return sorted({key for key in keys if key not in self.entries})

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "OperationTable":
        """Read what `to_dict` returned.

        Raises:
            ValueError: Another version wrote it, or a time is negative or not finite.
        """
        return read_stored(cls, data, version=VERSION, name="operation table")

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")


def load(
    path: Path, wanted: MeasurementConditions, *, key: str = "latency table"
) -> OperationTable:
    """Read a table that was made under given conditions.

    Args:
        path: the file.
        wanted: conditions under which the table must be valid.
        key: name of the file in messages, such as the setting that names it.

    Raises:
        InputError: There is no such file, or it was made under other conditions; the message
            lists all differences and the command that makes a table.
    """
    try:
        table = OperationTable.from_dict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise InputError.of(key, path, f"is not there; {_advice(path)}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"is no table that this version reads ({error!r}); {_advice(path)}"
        raise InputError.of(key, path, message) from error
    problems = [
        Problem(
            f"{key}: {_WORDS[name]}",
            str(getattr(table.made_for, name)),
            f"here it is {getattr(wanted, name)}; {_advice(path)}",
        )
        for name in (field.name for field in fields(MeasurementConditions))
        if getattr(table.made_for, name) != getattr(wanted, name)
    ]
    if problems:
        raise InputError(problems)
    return table


def settings_sha256(space: SpaceSection) -> str:
    """Return the SHA-256 of all settings of a space."""
    text = json.dumps(space.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _advice(path: Path) -> str:
    return f"make one on this machine with this configuration: nas profile --out {path.name}"
