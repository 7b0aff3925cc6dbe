import socket
import sqlite3
import time
from pathlib import Path

import pytest

from components.tracking import check_store, redact
from components.tracking.stores import absolute


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@db:5432/mlflow", "postgresql://me:***@db:5432/mlflow"),
        ("postgresql+psycopg2://me:p@w:x/y@db/mlflow", "postgresql+psycopg2://me:***@db/mlflow"),
        ("http://me:pw@host", "http://me:***@host"),
        ("https://token@host:5000/x", "https://***@host:5000/x"),
        ("mssql://h/d?user=me&password=pw&a=b", "mssql://h/d?user=me&password=***&a=b"),
        ("no answer from http://me:pw@h:1/api now", "no answer from http://me:***@h:1/api now"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
    ],
)
def test_secrets_are_redacted_and_nothing_else(text: str, shown: str):
    assert redact(text) == shown


def test_a_relative_store_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///runs/a.db?timeout=9") == f"sqlite:///{tmp_path}/runs/a.db?timeout=9"
    assert absolute("http://host:5000") == "http://host:5000"


def problems(uri: str) -> str:
    found, warnings = check_store(uri)
    assert warnings == []
    return "\n".join(map(str, found))


def test_a_new_store_and_a_present_one_are_fine(tmp_path: Path, store: str):
    assert problems(f"sqlite:///{tmp_path}/new/folder/mlflow.db") == ""
    assert problems(store) == ""
    assert not (tmp_path / "new").exists()


def test_what_is_no_database_of_mlflow_is_refused(tmp_path: Path):
    (tmp_path / "text.db").write_text("this is not a database, however long it may be" * 10)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE mine (id)")
    assert "cannot be opened as an SQLite database" in problems(f"sqlite:///{tmp_path}/text.db")
    assert "something else than MLflow" in problems(f"sqlite:///{tmp_path}/other.db")
    assert "is a folder" in problems(f"sqlite:///{tmp_path}")
    assert "is a folder" in problems("sqlite:///")
    assert "not a writable folder" in problems(f"sqlite:///{tmp_path}/text.db/mlflow.db")


def test_a_folder_that_may_not_be_written_is_refused():
    # /proc is written by nobody, root included.
    assert "not a writable folder" in problems("sqlite:////proc/mlflow.db")


def test_addresses_that_mlflow_does_not_take_are_explained():
    assert "keeps no runs in plain folders" in problems("file:///tmp/mlruns")
    assert "keeps no runs in plain folders" in problems("./mlruns")
    assert "use sqlite:///FILE" in problems("redis://host")
    assert "names no host" in problems("http:///mlflow")
    assert problems("postgresql://me:pw@db/mlflow") == ""


def test_a_server_that_is_away_is_a_warning_without_its_password():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for uri in (f"http://me:secret@127.0.0.1:{port}", "http://me:secret@host.invalid"):
        start = time.monotonic()
        found, (warning,) = check_store(uri)
        assert found == []
        assert "does not answer" in warning
        assert "secret" not in warning
        assert time.monotonic() - start < 10
