"""The copy of the databases, and their restoration, by the scripts on a real PostgreSQL."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from manifest_build import MANIFESTS, build, container, find
from postgres import PASSWORD, USER, Postgres, programs

FOLDER = MANIFESTS / "backup"


ACCOUNTS = {"studies": "study", "mlflow": "mlflow"}
"""The databases, whose owners have the same names, with their passwords."""


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[Postgres]:
    """With the databases and accounts that the manifests make."""
    _remove(postgres)
    environment = {"STUDY_PASSWORD": "study", "MLFLOW_PASSWORD": "mlflow"}
    done = _run(postgres, ["psql", f"--file={MANIFESTS / 'base/init.sql'}"], environment)
    assert done.returncode == 0, done.stderr
    yield postgres
    _remove(postgres)


def _remove(server: Postgres) -> None:
    """The server serves other tests, too."""
    with _connect(server, "postgres") as one:
        for name in [str(row[0]) for row in one.execute("SELECT datname FROM pg_database")]:
            if name.startswith(tuple(ACCOUNTS)):
                one.execute(f"DROP DATABASE {name} WITH (FORCE)")
        for name in ACCOUNTS:
            one.execute(f"DROP ROLE IF EXISTS {name}")


def _connect(
    server: Postgres, database: str, user: str = USER, password: str = PASSWORD
) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        user=user,
        password=password,
        dbname=database,
        autocommit=True,
    )


def _run(
    server: Postgres, command: list[str], more: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    folder = programs()
    assert folder is not None
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": USER,
        "PGDATABASE": "postgres",
        "PGPASSWORD": PASSWORD,
        **more,
    }
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def backup(server: Postgres, folder: Path) -> "subprocess.CompletedProcess[str]":
    given = {"FOLDER": str(folder), "KEEP_DAYS": "30"}
    return _run(server, ["sh", str(FOLDER / "backup.sh")], given)


def restore(server: Postgres, folder: Path, stamp: str = "") -> "subprocess.CompletedProcess[str]":
    given = {"FOLDER": str(folder), "STAMP": stamp}
    return _run(server, ["sh", str(FOLDER / "restore.sh")], given)


def fill(server: Postgres, text: str) -> None:
    for name in ACCOUNTS:
        with _connect(server, name, name, ACCOUNTS[name]) as one:
            one.execute("CREATE TABLE IF NOT EXISTS kept (text varchar)")
            one.execute("DELETE FROM kept")
            one.execute("INSERT INTO kept VALUES (%s)", (text,))


def kept(server: Postgres, name: str) -> object:
    # By the account of the database: it owns what was restored.
    with _connect(server, name, name, ACCOUNTS[name]) as one:
        one.execute("CREATE TABLE probe (id integer)")
        one.execute("DROP TABLE probe")
        [row] = one.execute("SELECT text FROM kept").fetchall()
        return row[0]


def test_a_copy_is_restored_while_clients_are_connected(server: Postgres, tmp_path: Path) -> None:
    fill(server, "first")
    done = backup(server, tmp_path)
    assert done.returncode == 0, done.stderr
    fill(server, "second")
    client = _connect(server, "studies", "studies", "study")
    done = restore(server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert [kept(server, name) for name in ACCOUNTS] == ["first", "first"]
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        _connect(server, "studies", "mlflow", "mlflow")
    with _connect(server, "postgres") as one:
        names = [row[0] for row in one.execute("SELECT datname FROM pg_database").fetchall()]
        before = [str(name) for name in names if "_before_" in str(name)]
        assert {name.partition("_")[0] for name in before} == {"studies", "mlflow"}
        [studies] = [name for name in before if name.startswith("studies")]
    with _connect(server, studies) as one:
        assert one.execute("SELECT text FROM kept").fetchall() == [("second",)]


def test_one_of_several_copies_is_named(server: Postgres, tmp_path: Path) -> None:
    fill(server, "older")
    assert backup(server, tmp_path).returncode == 0
    [older] = [path.name for path in tmp_path.glob("mlflow-*")]
    time.sleep(1.1)  # names have the second
    fill(server, "newer")
    assert backup(server, tmp_path).returncode == 0
    assert restore(server, tmp_path).returncode == 0
    assert kept(server, "mlflow") == "newer"
    time.sleep(1.1)
    stamp = older.removeprefix("mlflow-").removesuffix(".dump")
    assert restore(server, tmp_path, stamp).returncode == 0
    assert kept(server, "mlflow") == "older"
    wrong = restore(server, tmp_path, "20200101T000000Z")
    assert wrong.returncode == 1
    assert "There is no studies-20200101T000000Z.dump" in wrong.stderr
    assert older in wrong.stderr
    assert kept(server, "mlflow") == "older"


def test_a_copy_that_was_cut_changes_nothing(server: Postgres, tmp_path: Path) -> None:
    fill(server, "whole")
    assert backup(server, tmp_path).returncode == 0
    [dump] = tmp_path.glob("mlflow-*.dump")
    dump.write_bytes(dump.read_bytes()[: dump.stat().st_size // 2])
    fill(server, "present")
    assert restore(server, tmp_path).returncode != 0
    assert [kept(server, name) for name in ACCOUNTS] == ["present", "present"]


def test_old_copies_go_and_only_after_a_new_one_is_whole(server: Postgres, tmp_path: Path) -> None:
    old = tmp_path / "studies-20200101T000000Z.dump"
    old.write_text("old")
    os.utime(old, (0, 0))
    unreachable = _run(
        server,
        ["sh", str(FOLDER / "backup.sh")],
        {"FOLDER": str(tmp_path), "KEEP_DAYS": "30", "PGPORT": "9"},
    )
    assert unreachable.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == [old.name], "no new copy, no part of one"
    fill(server, "kept")
    assert backup(server, tmp_path).returncode == 0
    assert not old.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_jobs_run_these_scripts_in_the_image_of_the_server() -> None:
    objects = build("gpu+backup")
    image = container(objects, "postgres")["image"]
    for name in ("backup", "restore"):
        one = container(objects, name)
        assert one["image"] == image, "pg_dump must not be older than the server"
        assert one["command"] == ["sh", f"/etc/nas/{name}.sh"]
        given = {each["name"] for each in one["env"]}
        assert {"FOLDER", "PGHOST", "PGUSER", "PGPASSWORD"} <= given
    [scripts] = [
        one
        for one in objects
        if one["kind"] == "ConfigMap" and one["metadata"]["name"].startswith("nas-postgres-backup")
    ]
    assert set(scripts["data"]) == {"backup.sh", "restore.sh"}
    assert find(objects, "CronJob", "nas-postgres-restore")["spec"]["suspend"] is True
    assert "suspend" not in find(objects, "CronJob", "nas-postgres-backup")["spec"]
