"""Run the steps of a local run as forks of one process, which imports their modules once.

    python -m components.fork_server --listener FD --preload JSON FOLDER

`nas run` starts it on Linux. A step that is started finds its address in `NAS_FORK_SERVER` and
requests a fork (`components.fork_client`). The fork gets the environment, the folder and the output
of the client, which ends with its status; it is killed when the client or this process is killed.
While steps run, this process imports what later ones need: JSON names the modules to import after
the start of a step, those below "" at once. This process starts no thread and computes nothing, so
that a fork behaves as a new process.
"""

import argparse
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from components.fork_client import LENGTH_BYTES
from components.progress import report

AT_ONCE = ""
"""Key of the modules that are imported before any step."""
_LOOK_S = 1.0
_CHUNK = 2**16
_PR_SET_PDEATHSIG = 1  # Linux: the signal that a process gets when its parent ends


@dataclass(frozen=True, slots=True)
class Job:
    """A request: the arguments, environment, folder and outputs of the client."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    outputs: tuple[int, int]


class Server:
    """Forks until its parent ends or SIGTERM arrives; then waits for the forks.

    Args:
        listener: a listening Unix socket.
        preload: modules to import after the start of a step, and at once.
    """

    def __init__(self, listener: socket.socket, preload: Mapping[str, Sequence[str]]) -> None:
        self._listener = listener
        self._preload = preload
        self._to_import: deque[str] = deque(preload.get(AT_ONCE, ()))
        self._running: dict[int, socket.socket] = {}
        self._parent = os.getppid()
        self._is_ending = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> Job | None:
        """Return a job in each forked process, and None in this one at its end."""
        with self._signals_wake():
            while not self._is_ending or self._running:
                job = self._turn()
                if job is not None:
                    return job
                if os.getppid() != self._parent and not self._is_ending:
                    self._end()
                    for pid in self._running:
                        os.kill(pid, signal.SIGTERM)
        return None

    def _turn(self) -> Job | None:
        """Wait for an event, or import one module when there is none."""
        ready = self._selector.select(0 if self._to_import else _LOOK_S)
        self._reap()
        for key, _ in ready:
            if key.fileobj is self._listener:
                connection, _ = self._listener.accept()
                job = self._start(connection)
                if job is not None:
                    return job
            elif key.data is not None:  # the client has ended without an answer
                with contextlib.suppress(ProcessLookupError):
                    os.kill(key.data, signal.SIGKILL)
                self._selector.unregister(key.fileobj)
            else:
                self._wake.recv(_CHUNK)
        if not ready and self._to_import:
            _import(self._to_import.popleft())
        return None

    def _start(self, connection: socket.socket) -> Job | None:
        """Fork for a request: the job in the fork, None here."""
        job = _receive(connection)
        if job is None:
            connection.close()
            return None
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        gc.freeze()  # the collector of a fork need not look at what it shares with this process
        pid = os.fork()
        if pid == 0:
            self._leave(connection)
            return job
        for output in job.outputs:
            os.close(output)
        self._running[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, pid)
        self._to_import.extend(self._preload.get(job.arguments[0], ()))
        return None

    def _leave(self, connection: socket.socket) -> None:
        """Close in a fork what belongs to the server, and end with it."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self._selector.close()
        for one in (self._listener, connection, *self._running.values()):
            one.close()

    def _reap(self) -> None:
        """Send the clients the exit statuses of their forks."""
        for pid in list(self._running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                connection = self._running.pop(pid)
                with contextlib.suppress(KeyError):  # the client has ended
                    self._selector.unregister(connection)
                with contextlib.suppress(OSError):  # the same, at this moment
                    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                connection.close()

    def _end(self, *_: object) -> None:
        self._is_ending = True
        self._to_import.clear()

    @contextlib.contextmanager
    def _signals_wake(self) -> Any:
        """End a wait when a fork ends or SIGTERM comes; forks have the usual handlers."""
        self._wake, write = socket.socketpair()
        write.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        signal.set_wakeup_fd(write.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(signum, signal.SIG_DFL)
            self._wake.close()
            write.close()


def _receive(connection: socket.socket) -> Job | None:
    """Read a request: JSON, and the descriptors of standard output and error."""
    data, outputs, _, _ = socket.recv_fds(connection, _CHUNK, 2)
    while len(data) < LENGTH_BYTES or len(data) < LENGTH_BYTES + _length(data):
        part = connection.recv(_CHUNK)
        if not part:  # killed before its request
            for output in outputs:
                os.close(output)
            return None
        data += part
    return Job(**json.loads(data[LENGTH_BYTES:]), outputs=(outputs[0], outputs[1]))


def _length(data: bytes) -> int:
    return int.from_bytes(data[:LENGTH_BYTES], "big")


def _import(name: str) -> None:
    start = time.perf_counter()
    # What a later step needs it imports itself; a module of another version's torch is no loss.
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(name)
    report("fork_server", "imported", module=name, seconds=round(time.perf_counter() - start, 3))


def become(job: Job, imported: Mapping[str, str]) -> None:
    """Take over environment, folder and outputs of the client.

    Args:
        imported: environment variables that the imported modules have set.
    """
    for output, number in zip(job.outputs, (1, 2), strict=True):
        os.dup2(output, number)
        os.close(output)
    os.environ.clear()
    os.environ.update({**job.environment, **imported})
    os.chdir(job.folder)
    sys.argv = ["components.execute", *job.arguments]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m components.fork_server")
    parser.add_argument("--listener", type=int, required=True, help="descriptor of a Unix socket")
    parser.add_argument("--preload", default="{}", help="modules by the step that precedes them")
    parser.add_argument("folder", help="of the run: shows in the list of processes whose this is")
    arguments = parser.parse_args()
    os.environ["_KFP_RUNTIME"] = "true"  # kfp leaves out its compiler, as in every step
    before = dict(os.environ)
    server = Server(socket.socket(fileno=arguments.listener), json.loads(arguments.preload))
    job = server.serve()
    if job is None:
        return 0
    become(job, {name: v for name, v in os.environ.items() if before.get(name) != v})
    _execute()


def _execute() -> NoReturn:
    """Run the step, and exit without the destructors of torch, which take a second."""
    from components import execute

    try:
        status = execute.main()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        status = end.code
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
