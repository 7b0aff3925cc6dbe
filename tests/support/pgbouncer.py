"""A private pgbouncer of Debian's package before a `Postgres`, in transaction mode.

A client's connection gets another one of the server for each transaction, so nothing that a
session of PostgreSQL remembers, such as prepared statements, is there at the next transaction.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from postgres import PASSWORD, USER, Postgres, free_port
from sqlalchemy.engine import make_url


def program() -> str | None:
    """The path of `pgbouncer`; None when it is not installed."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


class Pgbouncer:
    """A pooler with few connections to its server, so that clients must share them."""

    def __init__(self, server: Postgres, *, pool_size: int = 3) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="nas-pgbouncer-"))
        (self._folder / "users.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {self._folder}/users.txt\n"
            f"pool_mode = transaction\ndefault_pool_size = {pool_size}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        found = program()
        assert found is not None
        as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if as_owner:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, "postgres", "postgres")
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [*as_owner, found, str(self._folder / "pgbouncer.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text())

    def remove(self) -> None:
        if self._process is not None:
            self._process.terminate()  # runuser passes it on
            self._process.wait(timeout=10)
        shutil.rmtree(self._folder)

    def url(self, direct: str) -> str:
        """The URL of a database through the pooler, from its URL at the server."""
        return make_url(direct).set(port=self.port).render_as_string(hide_password=False)
