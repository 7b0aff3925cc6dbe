"""Latency by operation and shape, as a file: what a network will take before it is built.

An entry is the wall time of one operation (a convolution block, a pooling) on an input of one
shape. A network's time is the sum over the operations that it runs, plus what comes after the last
of them. A table is true for one device, one number of threads, one version of torch; it says which,
and is refused elsewhere. How it is measured: `nascore.latency.op_profiler`.
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
    """What a table holds for; it serves nobody else.

    Attributes:
        space: identifier of the search space.
        space_sha256: of its settings, which say more than the identifier, such as channels.
        phase: of the networks, `search` or `final`.
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
        runs: how many count.
    """

    ms: float
    spread_ms: float
    runs: int

    def times(self, factor: float) -> "TableEntry":
        return TableEntry(self.ms * factor, self.spread_ms * factor, self.runs)


@dataclass(frozen=True)
class OperationTable:
    """Times of operations, in milliseconds, and how they were measured.

    Attributes:
        entries: by what the operation is and what it reads
            (`nascore.latency.op_profiler.unit_key`).
        rest: from the end of a network's last operation to its answer.
        date: ISO 8601, UTC.
        warmup_runs: of each network, not counted.
        correction: the factor that all entries have in common (`nascore.latency.op_profiler`).
        disturbed: share of the runs that were interrupted by other processes, and not counted if
            enough others were there.
    """

    made_for: MeasurementConditions
    entries: Mapping[str, TableEntry]
    rest: TableEntry
    date: str
    warmup_runs: int
    correction: float
    disturbed: float

    def predict(self, keys: Iterable[str]) -> float:
        """Milliseconds of a network that runs these operations, each as often as it is named.

        Raises:
            KeyError: an operation is not in the table.
        """
        return math.fsum(self.entries[key].ms for key in keys) + self.rest.ms

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Operations that the table does not hold, each once."""
        return sorted({key for key in keys if key not in self.entries})

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "OperationTable":
        """Raises ValueError at another version, or when a time is not one."""
        if data.get("version") != VERSION:
            raise ValueError(
                f"operation table version must be {VERSION}, got {data.get('version')!r}"
            )
        entries = {key: _entry(value) for key, value in data["entries"].items()}
        return cls(
            made_for=MeasurementConditions(**data["made_for"]),
            entries=entries,
            rest=_entry(data["rest"]),
            date=data["date"],
            warmup_runs=data["warmup_runs"],
            correction=data["correction"],
            disturbed=data["disturbed"],
        )

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")


def load(
    path: Path, wanted: MeasurementConditions, *, key: str = "latency table"
) -> OperationTable:
    """A table that was made for just these circumstances.

    Args:
        key: what the message calls the file, such as the setting that names it.

    Raises:
        InputError: there is none, or it was made for something else; all differences are told, and
            how to make one that fits.
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
    """Of all settings of a space."""
    text = json.dumps(space.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _entry(data: Mapping[str, Any]) -> TableEntry:
    entry = TableEntry(float(data["ms"]), float(data["spread_ms"]), int(data["runs"]))
    if not (math.isfinite(entry.ms) and entry.ms >= 0):
        raise ValueError(f"a time must be finite and not negative, got {entry.ms}")
    return entry


def _advice(path: Path) -> str:
    return f"make one on this machine with this configuration: nas profile --out {path.name}"
