"""Stores whose tables are of another revision than the installed MLflow."""

import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.store.db import utils
from old_mlflow_store import NEWER, OLDER, make_old_store
from postgres import Postgres
from sqlalchemy import create_engine

from components.tracking import check_store
from components.tracking.store_revision import _migrations


def test_the_revisions_are_those_that_mlflow_finds() -> None:
    before, newest = _migrations()
    assert newest == utils._get_latest_schema_revision()
    assert OLDER in before
    assert len(before) > 60


@pytest.mark.slow
def test_an_older_store_is_named_with_the_command_that_migrates_it(tmp_path: Path) -> None:
    path = make_old_store(tmp_path / "mlflow.db")
    content = path.read_bytes()
    uri = f"sqlite:///{path}"
    (problem,), warnings = check_store(uri, "nas")
    assert warnings == []
    assert (problem.key, problem.value) == ("tracking.uri", uri)
    assert f"was written by an older MLflow (its tables have the revision {OLDER}" in str(problem)
    assert path.read_bytes() == content, "a check changes nothing"
    command = re.search(r"`mlflow (.*)`", problem.message)
    assert command is not None
    subprocess.run([sys.executable, "-m", "mlflow", *shlex.split(command[1])], check=True)
    assert check_store(uri, "nas") == ([], [])


REVISIONS = pytest.mark.parametrize(
    ("revision", "said", "advice"),
    [
        (OLDER, "an older", "make a copy of it, then run `mlflow db upgrade"),
        (NEWER, "a newer", "update mlflow, or name another store"),
    ],
)


@REVISIONS
def test_a_file(store: str, revision: str, said: str, advice: str) -> None:
    with sqlite3.connect(store.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    (problem,), _ = check_store(store, "nas")
    assert f"was written by {said} MLflow" in problem.message
    assert advice in problem.message


@REVISIONS
def test_a_database_server(postgres: Postgres, revision: str, said: str, advice: str) -> None:
    url = postgres.new_database()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE experiments (name text, lifecycle_stage text)")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num text)")
        connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{revision}')")
    engine.dispose()
    (problem,), _ = check_store(url)
    assert f"was written by {said} MLflow" in problem.message
    assert advice in problem.message
