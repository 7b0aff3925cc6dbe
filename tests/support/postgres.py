"""A private PostgreSQL server of Debian's package, for tests to use and to mistreat."""

import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg

USER = "nas"
PASSWORD = "pass-" + secrets.token_hex(8)  # must appear nowhere
_DEBIAN = Path("/usr/lib/postgresql")
_RANDOM = random.SystemRandom()


def programs() -> Path | None:
    """The folder with `initdb` and `pg_ctl`; of the newest version, None when not installed."""
    found = sorted(_DEBIAN.glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


def free_port() -> int:
    """A port of this machine that no process uses now, and no connection will use soon.

    It lies below the ports that Linux gives to outgoing connections (from 32768 on): one of those
    is taken again by the next connection, often before the server of a test has bound it.
    """
    for port in _RANDOM.sample(range(15_000, 32_000), 1_000):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port of 1,000 is free")


class Postgres:
    """A server with its own data folder and port, which asks for a password.

    It writes through to the disk (fsync), as stopping it at once must not lose a commit.
    """

    def __init__(self) -> None:
        self.port = free_port()
        # Not below pytest's folders, which other users may not enter: it refuses to run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="nas-postgres-"))
        self._as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._num_databases = 0

    def create(self) -> None:
        (self._folder / "password").write_text(PASSWORD)
        if self._as_owner:
            for path in (self._folder, self._folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        self._call(
            "initdb",
            *("--pgdata", str(self._folder / "data"), "--username", USER, "--no-sync"),
            *("--auth", "scram-sha-256", "--pwfile", str(self._folder / "password")),
        )
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        self._control("start", "--log", str(self._folder / "log"), "--options", options)

    def stop(self) -> None:
        """At once, as when the machine goes down: no checkpoint, no farewell to its clients."""
        self._control("stop", "--mode", "immediate")

    def remove(self) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._num_databases += 1
        name = f"test{self._num_databases}"
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _control(self, action: str, *arguments: str) -> None:
        self._call("pg_ctl", action, "-w", "--pgdata", str(self._folder / "data"), *arguments)

    def _call(self, program: str, *arguments: str) -> None:
        folder = programs()
        assert folder is not None
        done = subprocess.run(
            [*self._as_owner, str(folder / program), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            # The server inherits what is given here: a pipe would stay open as long as it runs.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        log = self._folder / "log"
        assert done.returncode == 0, (
            f"{program} {arguments[0]} failed: {log.read_text() if log.exists() else 'no log'}"
        )
