"""Identity of a worker process, by which other workers know whether it is alive."""

import contextlib
import functools
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil

_ROUNDING_S = 2.0  # the kernel gives the time of boot in whole seconds
_at_work: set[str] = set()  # ids of the workers of this process


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """A process that trains children.

    Attributes:
        id: unique.
        host: machine and PID namespace; workers of equal hosts see each other's processes.
        pid: process number.
        born_s: start of the process, seconds since the machine was booted, to detect that `pid`
            was reused.
    """

    id: str
    host: str
    pid: int
    born_s: float

    @classmethod
    def here(cls) -> Self:
        """Return a worker that lives until this process ends or `retire` is called."""
        worker = cls(uuid.uuid4().hex, _host(), os.getpid(), born_s(psutil.Process()))
        _at_work.add(worker.id)
        return worker

    def retire(self) -> None:
        """End the worker, although its process continues."""
        _at_work.discard(self.id)

    def is_gone(self) -> bool:
        """Return whether the process is known to have ended; nothing is known of other hosts."""
        if self.host != _host():
            return False
        if self.pid == os.getpid():
            return self.id not in _at_work
        try:
            process = psutil.Process(self.pid)
            ended: bool = process.status() == psutil.STATUS_ZOMBIE
            return ended or abs(born_s(process) - self.born_s) > _ROUNDING_S
        except psutil.NoSuchProcess:
            return True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def born_s(process: psutil.Process) -> float:
    """Return the start of a process in seconds since the machine was booted.

    psutil's time of the start changes when the clock of the machine is set.
    """
    start_s: float = process.create_time()
    boot_s: float = psutil.boot_time()
    return start_s - boot_s


@functools.cache
def _host() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not Linux: only the name of the machine
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)
