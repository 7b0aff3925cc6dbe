"""The memory limit of this container, and whether it ended a process.

KFP's launcher turns a kill for memory into exit code 1, and where the kubelet lets the kernel kill
a whole container (`memory.oom.group`, the default since Kubernetes 1.28 with cgroup v2), no process
inside is left to report it. So the supervisor reads the kernel's counters, and ends the work itself
shortly before the limit: the work is then restarted from its last state.

Both cgroup versions are read. Page cache is not counted, since the kernel frees it when needed.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from components.variables import MEMORY

ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**60  # cgroup v1 writes a number near 2**63 where there is no limit
_LEAST_RESERVE = 32 * 2**20
_RESERVE = 0.03  # share of the limit


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory cgroup of this container.

    Attributes:
        folder: where its files are.
        limit: bytes.
        is_v1: whether the files are those of cgroup v1.
    """

    folder: Path
    limit: int
    is_v1: bool = False

    @classmethod
    def of_container(cls, root: Path = ROOT) -> "Memory | None":
        """Return the memory cgroup; None when there is none, or no limit."""
        for folder, file, is_v1 in (
            (root, "memory.max", False),
            (root / "memory", "memory.limit_in_bytes", True),
        ):
            limit = _number(folder / file)
            if limit is not None and limit < _NO_LIMIT:
                return cls(folder, limit, is_v1)
        return None

    def num_kills(self) -> int:
        """Return how many processes the kernel has killed for memory so far."""
        name = "memory.oom_control" if self.is_v1 else "memory.events"
        return _fields(self.folder / name).get("oom_kill", 0)

    def used(self) -> int | None:
        """Return the bytes that cannot be freed: all but the page cache."""
        total = _number(self.folder / ("memory.usage_in_bytes" if self.is_v1 else "memory.current"))
        if total is None:
            return None
        counted = _fields(self.folder / "memory.stat")
        names = ("total_inactive_file", "total_active_file")
        if not self.is_v1:
            names = ("inactive_file", "active_file")
        return max(0, total - sum(counted.get(name, 0) for name in names))

    def is_nearly_full(self) -> bool:
        used = self.used()
        reserve = max(_LEAST_RESERVE, int(_RESERVE * self.limit))
        return used is not None and used > self.limit - reserve

    def shown_limit(self) -> str:
        """Return the limit as it was asked for, else in MiB."""
        return os.environ.get(MEMORY) or f"{self.limit / 2**20:.0f} MiB"


def advice(step: str, memory: "Memory | None") -> str:
    """Return the reason of an end for memory, and what to do."""
    at = "" if memory is None else f" at {memory.shown_limit()}"
    return f"out of memory{at}; raise cluster.steps.{step}.memory"


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or the word `max`
        return None


def _fields(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
