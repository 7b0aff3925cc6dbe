"""Databases of studies as they are found: other programs' tables, accounts without rights, limits.

PostgreSQL is real. `nas doctor` and `nas run` are called on each, and nothing remains in a database
that they refuse.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import optuna
import psycopg
import pytest
from field_commands import TINY, Ended, examined, nas, soon_s
from postgres import PASSWORD, USER, Postgres

Field = Callable[..., None]
PLACE = "search.storage=env:STUDY"


def direct(url: str) -> str:
    """The URL as psycopg takes it."""
    return url.replace("+psycopg", "")


def tables(url: str) -> set[str]:
    with psycopg.connect(direct(url)) as connection:
        rows = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
    return {row[0] for row in rows}


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(direct(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


@pytest.fixture
def role(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    """An account without rights of its own."""
    name = f"low{abs(hash(request.node.name)) % 10**8}"
    execute(postgres.url("postgres"), f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    return name


def shown(text: str) -> str:
    """The start of a message without the parts that differ between runs."""
    return text[:380]


def both(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Ended]:
    """The word of doctor, and the run."""
    monkeypatch.setenv("STUDY", url)
    doctor = examined("study", folder=folder, settings=(PLACE,))
    run = nas("run", "--out", "r1", folder=folder, settings=(*TINY, PLACE))
    assert PASSWORD not in doctor + run.out + run.err
    return doctor, run


def refused(doctor: str, run: Ended, cause: str, remedy: str, folder: Path) -> None:
    assert doctor.startswith("problem study: "), doctor
    assert cause in doctor
    assert run.status == 2, run.err
    assert cause in run.message
    assert remedy in run.message
    assert run.seconds < soon_s()
    assert "Running" not in run.out, "it is refused before it starts"
    assert not (folder / "r1").exists()


MLFLOW = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
    "INSERT INTO alembic_version VALUES ('bd07f7e963c5')",
    "CREATE TABLE experiments (experiment_id INTEGER)",
    "CREATE TABLE registered_models (name VARCHAR(256))",
)
"""Part of what MLflow 3 makes."""


@pytest.mark.parametrize(
    ("statements", "query", "cause", "trouble"),
    [
        (MLFLOW, "", "is MLflow's database", "the database of MLflow for the study"),
        (
            ("CREATE TABLE invoices (id INTEGER)", "CREATE TABLE customers (id INTEGER)"),
            "",
            "is the database of another program (tables customers, invoices)",
            "the database of another program",
        ),
        (
            ("CREATE TABLE studies (id INTEGER, title TEXT)", "CREATE TABLE people (id INTEGER)"),
            "",
            "is the database of another program (tables people)",
            "a table of another program with a name that Optuna needs",
        ),
        (
            ("CREATE SCHEMA own", *MLFLOW[:2]),
            "?options=-csearch_path%3Down,public",
            "alembic_version of another schema",
            "MLflow's alembic_version in another schema of the search path",
        ),
    ],
)
def test_a_database_of_something_else(
    field: Field,
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statements: tuple[str, ...],
    query: str,
    cause: str,
    trouble: str,
) -> None:
    url = postgres.new_database()
    execute(url, *statements)
    before = tables(url)
    doctor, run = both(url + query, tmp_path, monkeypatch)
    refused(doctor, run, cause, "another database, or another schema", tmp_path)
    assert tables(url) == before
    field(
        area="database",
        line="42",
        trouble=trouble,
        doctor=f"problem study: {cause}",
        run=f"exit 2, nothing made: {cause}; a study needs a database or a schema of its own",
        seconds=round(run.seconds, 1),
    )


def test_the_sqlite_file_of_mlflow(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in MLFLOW:
            connection.execute(statement)
        connection.commit()
    before = path.read_bytes()
    doctor, run = both(f"sqlite:///{path}", tmp_path, monkeypatch)
    refused(doctor, run, "is MLflow's database", "another database", tmp_path)
    assert path.read_bytes() == before
    field(
        area="database",
        line="42",
        trouble="search.storage names the SQLite file of MLflow",
        doctor="problem study: is MLflow's database",
        run="exit 2, the file unchanged: is MLflow's database; name another database",
        seconds=round(run.seconds, 1),
    )


@pytest.mark.parametrize(
    ("statements", "cause", "remedy", "line", "trouble"),
    [
        (
            ("REVOKE CREATE ON SCHEMA public FROM PUBLIC",),
            "permission denied for schema public",
            "GRANT CREATE ON SCHEMA",
            "40",
            "an account without the right to create tables in the schema public",
        ),
        (
            ("ALTER ROLE {role} SET default_transaction_read_only = on",),
            "read-only transaction",
            "name the primary server instead of a replica",
            "",
            "a server that takes no writes, as a replica",
        ),
        (
            ("ALTER ROLE {role} CONNECTION LIMIT 0",),
            "too many connections",
            "holds up to 2 connections; raise the limit",
            "41",
            "the limit of connections is reached",
        ),
        (
            ("ALTER ROLE {role} SET statement_timeout = '500ms'",),
            "statement_timeout of the account is 500 ms",
            "raise it to 30 s",
            "",
            "a statement timeout of half a second",
        ),
    ],
)
def test_an_account_that_may_not_work(
    field: Field,
    postgres: Postgres,
    role: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statements: tuple[str, ...],
    cause: str,
    remedy: str,
    line: str,
    trouble: str,
) -> None:
    url = postgres.new_database()
    execute(url, *(statement.format(role=role) for statement in statements))
    doctor, run = both(url.replace(f"//{USER}:", f"//{role}:"), tmp_path, monkeypatch)
    refused(doctor, run, cause, remedy, tmp_path)
    assert tables(url) == set()
    field(
        area="database",
        line=line,
        trouble=trouble,
        doctor=shown(doctor.partition(": ")[0] + f": {cause}"),
        run=f"exit 2 before any training: {cause}; ... {remedy}",
        seconds=round(run.seconds, 1),
    )


def test_a_study_that_optuna_itself_made(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'o.db'}"
    made = optuna.create_study(storage=url, study_name="abc/method", direction="minimize")
    made.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    monkeypatch.setenv("STUDY", url)
    settings = (*TINY, PLACE, "search.study=abc")
    run = nas("run", "--out", "r1", folder=tmp_path, settings=settings)
    assert run.status == 2, run.err
    assert "abc/method: was made by another program with Optuna" in run.message
    doctor = examined("study", folder=tmp_path, settings=settings)
    assert doctor == "problem study: abc/method: was made by another program with Optuna"
    assert not (tmp_path / "r1").exists()
    assert made.user_attrs == {}
    assert len(optuna.get_all_study_names(url)) == 1
    field(
        area="database",
        line="82",
        trouble="search.study names a study that another program made with Optuna",
        doctor=doctor,
        run="exit 2, the study unchanged: was made by another program with Optuna; name another "
        "study",
        seconds=round(run.seconds, 1),
    )


def test_the_short_scheme_and_a_password_that_is_no_url(
    field: Field, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("STUDY", url.replace("postgresql+psycopg://", "postgres://"))
    assert examined("study", folder=tmp_path, settings=(PLACE,)).startswith("ok study")
    field(area="database", line="38", trouble="postgres://", doctor="ok study", run="works")
    monkeypatch.setenv("STUDY", "postgresql://nas:p@ss/w:rd@127.0.0.1/nas")
    doctor = examined("study", folder=tmp_path, settings=(PLACE,))
    run = nas("run", "--out", "r1", folder=tmp_path, settings=(*TINY, PLACE))
    assert run.status == 2
    assert "write postgresql://USER:PASSWORD@HOST/NAME, with %40" in run.message
    assert doctor.startswith("problem study")
    assert "p@ss" not in doctor + run.err
    field(
        area="database",
        line="37",
        trouble="a password with @ and / that is not escaped",
        doctor="problem study: is no URL of a database",
        run="exit 2: is no URL of a database; write postgresql://USER:PASSWORD@HOST/NAME, with "
        "%40, %2F and the like for special characters in the password",
        seconds=round(run.seconds, 1),
    )
