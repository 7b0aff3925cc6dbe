"""A private MLflow server, for tests to use and to mistreat."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopback import answers, open_url
from postgres import free_port
from sqlalchemy.engine import make_url

_START_S = 240


@dataclass(frozen=True, slots=True)
class Account:
    """Who may log in to a server with basic authentication."""

    user: str
    password: str

    def environment(self) -> dict[str, str]:
        """What a client reads."""
        return {
            "MLFLOW_TRACKING_USERNAME": self.user,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }


class MlflowServer:
    """A server on a port of its own, on a store that survives it; a start takes seconds.

    Args:
        folder: for its log, and for store and artifacts where no other place is given.
        store: URL of an empty database, such as `Postgres.new_database` gives; SQLite without.
        artifacts: where artifacts go, such as `s3://bucket/prefix`.
        serves_artifacts: whether clients send artifacts to the server; otherwise they write them to
            `artifacts` by themselves.
        program: the command; that of an older MLflow has another environment.
        admin: asks for a password (`--app-name basic-auth`); this is the first who has one.
        environment: further variables of the server, such as the address and keys of S3.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: str | None = None,
        artifacts: str | None = None,
        serves_artifacts: bool = True,
        program: Sequence[str] = (sys.executable, "-m", "mlflow"),
        admin: Account | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.admin = admin
        self._store = make_url(store or f"sqlite:///{folder}/mlflow.db")
        self._artifacts = artifacts or str(folder / "artifacts")
        self._serves_artifacts, self._program = serves_artifacts, program
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        if self._process is not None:
            return
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._variables(),
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not answers(f"{self.uri}/health"):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.2)

    def stop(self) -> None:
        """At once, as when the machine goes down."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def add_account(self, account: Account) -> None:
        """As the administrator, through the API: an account that may make its own experiments."""
        body = {"username": account.user, "password": account.password}
        self.ask("POST", "/api/2.0/mlflow/users/create", body)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A request of the administrator, past MLflow's client; raises HTTPError."""
        request = urllib.request.Request(
            f"{self.uri}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        if self.admin is not None:
            pair = f"{self.admin.user}:{self.admin.password}".encode()
            request.add_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
        with open_url(request, timeout=60) as answer:
            content: dict[str, Any] = json.load(answer)
        return content

    def _command(self) -> list[str]:
        """Without passwords: everybody on the machine may read a command line."""
        command = [*self._program, "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", self._store_without_password()]
        if self._serves_artifacts:
            command += ["--artifacts-destination", self._artifacts]
        else:
            command += ["--no-serve-artifacts", "--default-artifact-root", self._artifacts]
        return command if self.admin is None else [*command, "--app-name", "basic-auth"]

    def _store_without_password(self) -> str:
        return self._store._replace(password=None).render_as_string(hide_password=False)

    def _variables(self) -> dict[str, str]:
        variables = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Its queue of jobs, which is of no use here, takes seven processes.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **self._environment,
        }
        if self._store.password is not None:
            variables["PGPASSWORD"] = str(self._store.password)
        if self.admin is not None:
            settings = self.folder / "basic_auth.ini"
            settings.write_text(
                "[mlflow]\ndefault_permission = READ\nauth_cache_ttl_seconds = 60\n"
                f"database_uri = {self._store_without_password()}\n"
            )
            variables |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(settings),
                "MLFLOW_AUTH_ADMIN_USERNAME": self.admin.user,
                "MLFLOW_AUTH_ADMIN_PASSWORD": self.admin.password,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "any",
            }
        return variables
