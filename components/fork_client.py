"""Ask the fork server of a local run for a process, and end with its exit status."""

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "NAS_FORK_SERVER"
"""The folder in which the socket lies; not set where steps start as processes of their own."""
SOCKET = "steps"
LENGTH_BYTES = 8
"""The length of a request, which precedes it."""


def run(arguments: Sequence[str]) -> int | None:
    """Run a step in a fork; return its exit status, or None where there is no server any more.

    SIGTERM is ignored here: the process that stops the run sends it to the fork too.

    Args:
        arguments: those of `components.execute`, the name of the step first.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connect(connection, Path(os.environ[VARIABLE]))
        except OSError as error:
            print(f"no fork server ({error}); the step starts by itself", flush=True)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return None
        environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
        request = {"arguments": [*arguments], "environment": environment, "folder": os.getcwd()}
        data = json.dumps(request).encode()
        # The connection stays open in both directions: its end says that this process was killed.
        data = len(data).to_bytes(LENGTH_BYTES, "big") + data
        sent = socket.send_fds(connection, [data], [1, 2])
        connection.sendall(data[sent:])
        answer = b"".join(iter(lambda: connection.recv(64), b""))
    if not answer:
        print("the fork server was killed, and the step with it", file=sys.stderr)
        return 1
    status = int(answer)
    if status < 0:
        print(f"the step was killed by {signal.Signals(-status).name}", file=sys.stderr)
        return 128 - status
    return status


def connect(connection: socket.socket, folder: Path) -> None:
    """Connect to the socket in a folder, by a path that is short enough for any folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)
