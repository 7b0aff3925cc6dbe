"""PostgreSQL, S3 and an MLflow server that belong together, and `nas` as people call it there."""

import base64
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import s3
from mlflow_server import Account, MlflowServer
from postgres import PASSWORD, USER, Postgres
from psycopg import sql

ARTIFACTS, DATA, HANDED_OVER = "nas-mlflow", "data", "handed-over"  # buckets
_LEAST = 12  # hexadecimal digits that are found nowhere by chance


def planted() -> str:
    """A password with what is escaped in URLs; each half of it is unique."""
    return f"{secrets.token_hex(_LEAST // 2)}:/@%?#&+{secrets.token_hex(_LEAST // 2)}"


def traces(secret: str) -> set[bytes]:
    """What of a secret is there whole in any text that holds it, escaped in whatever way.

    Letters and digits are the same in URLs, JSON, HTML and shell; Base64 has three forms, by where
    the secret begins.
    """
    found = {part.encode() for part in re.findall(rf"[0-9A-Za-z]{{{_LEAST},}}", secret)}
    raw = secret.encode()
    for offset in range(3):
        # The first and last characters also depend on what is around.
        coded = base64.b64encode(b"\0" * offset + raw)[offset + (offset > 0) : -4]
        found |= {coded, coded.replace(b"+", b"-").replace(b"/", b"_")}
    found.add(raw.hex().encode())
    return found


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended, and all that it said."""

    status: int
    stdout: str
    stderr: str


class Services:
    """All that a run needs around it, on loopback; the secrets are new each time.

    Attributes:
        home: where commands are called; their output, logs and temporary files lie below it.
        study_url: database of the studies, with an account of its own.
        steps: account of the steps at the MLflow server; `mlflow.admin` is another.
        token: of a Kubeflow server that is not there.
    """

    def __init__(self, home: Path, postgres: Postgres, store: s3.S3Server) -> None:
        self.home = home
        self.postgres, self.s3 = postgres, store
        self.steps = Account("nas-steps", planted())
        self.token = planted()
        self._study_password = planted()
        for bucket in (ARTIFACTS, DATA, HANDED_OVER):
            store.client().create_bucket(Bucket=bucket)
        self.study_url = self._add_studies()
        self.mlflow_url = postgres.new_database()
        (home / "server").mkdir()
        (home / "tmp").mkdir()
        self.mlflow = MlflowServer(
            home / "server",
            store=self.mlflow_url,
            artifacts=f"s3://{ARTIFACTS}/artifacts",
            admin=Account("admin", planted()),
            environment={"MLFLOW_S3_ENDPOINT_URL": store.url, **self._s3_keys()},
        )

    def start(self) -> None:
        self.mlflow.start()
        self.mlflow.add_account(self.steps)

    def secrets(self) -> dict[str, str]:
        """By what they open."""
        assert self.mlflow.admin is not None
        return {
            "study": self._study_password,
            "postgres": PASSWORD,
            "mlflow": self.steps.password,
            "mlflow admin": self.mlflow.admin.password,
            "s3": s3.SECRET_KEY,
            "token": self.token,
        }

    def environment(self) -> dict[str, str]:
        """Of a command: secrets as a cluster gives them to steps."""
        return {
            **os.environ,
            **self._s3_keys(),
            **self.steps.environment(),
            "AWS_ENDPOINT_URL": self.s3.url,
            "NAS_STUDY_URL": self.study_url,
            "NAS_KFP_TOKEN": self.token,
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
            "TMPDIR": str(self.home / "tmp"),
        }

    def nas(self, *arguments: str, name: str, changed: Mapping[str, str] | None = None) -> Ended:
        """Calls the command; what it says is also kept in `home` under `name`."""
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            cwd=self.home,
            env={**self.environment(), **(changed or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        (self.home / f"{name}.stdout").write_text(done.stdout)
        (self.home / f"{name}.stderr").write_text(done.stderr)
        return Ended(done.returncode, done.stdout, done.stderr)

    def study_url_with(self, password: str) -> str:
        coded = quote(password, safe="")
        return f"postgresql://searcher:{coded}@127.0.0.1:{self.postgres.port}/searches"

    # --- what is written --------------------------------------------------------------------

    def objects(self, bucket: str = ARTIFACTS) -> dict[str, bytes]:
        """All that is in a bucket, by key; MLflow's when not told."""
        client = self.s3.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def rows(self, url: str) -> Iterator[tuple[str, str]]:
        """Name of the table and text of each row of a database."""
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            for (table,) in tables:
                query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(table))
                for (row,) in connection.execute(query):
                    yield table, row

    def count(self, statement: str) -> Any:
        """The one value that a statement on the database of the studies gives."""
        with psycopg.connect(self.study_url) as connection:
            row = connection.execute(sql.SQL(statement)).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]

    # --- setting up -------------------------------------------------------------------------

    def _s3_keys(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
            "AWS_DEFAULT_REGION": s3.REGION,
        }

    def _add_studies(self) -> str:
        with psycopg.connect(
            host="127.0.0.1",
            port=self.postgres.port,
            user=USER,
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            password = sql.Literal(self._study_password)
            connection.execute(sql.SQL("CREATE ROLE searcher LOGIN PASSWORD {}").format(password))
            connection.execute("CREATE DATABASE searches OWNER searcher")
        return self.study_url_with(self._study_password)
