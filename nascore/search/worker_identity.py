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

_at_work: set[str] = set()  # ids of the workers of this process


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """A process that trains children.

    Attributes:
        id: unique for ever.
        host: machine, and the name space that `pid` is a number of; equal hosts see each other.
        pid: process number.
        born_s: when the process started, seconds since the epoch: numbers are used again.
    """

    id: str
    host: str
    pid: int
    born_s: float

    @classmethod
    def here(cls) -> Self:
        """A worker in this process, until it ends or `retire` is called."""
        worker = cls(uuid.uuid4().hex, _host(), os.getpid(), psutil.Process().create_time())
        _at_work.add(worker.id)
        return worker

    def retire(self) -> None:
        """The process lives on, but nobody works in this worker's name any more."""
        _at_work.discard(self.id)

    def is_gone(self) -> bool:
        """Whether the process is known to have ended; of other hosts nothing is known."""
        if self.host != _host():
            return False
        if self.pid == os.getpid():
            return self.id not in _at_work
        try:
            process = psutil.Process(self.pid)
            ended: bool = process.status() == psutil.STATUS_ZOMBIE
            return ended or abs(process.create_time() - self.born_s) > 1
        except psutil.NoSuchProcess:
            return True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@functools.cache
def _host() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # no Linux: the name of the machine has to do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)
