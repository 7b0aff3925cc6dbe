"""Check of the database of studies before anything is made in it: whose tables it has, and rights.

A run and `nas doctor` call the same function, so that both come to the same conclusion.
"""

import re
import uuid
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, create_engine, insert, inspect, select, text
from sqlalchemy.engine import make_url

from nascore.errors import InputError
from nascore.search.database_url import KEY, without_password
from nascore.search.optuna_private import ALL_TABLES, STUDIES, STUDY_ATTRIBUTES, TRIALS

OTHER_PROGRAM = "was made by another program with Optuna; name another study"
CONNECTIONS = 2
"""Connections that a process holds at most: one for its children, one for heartbeats."""
CONNECT_S = 5
_SQLITE_LOCK_S = 60
_LIBPQ: dict[str, Any] = {  # so that a dead server is noticed within half a minute, not after hours
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms
}
_ALEMBIC = "alembic_version"
_OPTUNA_REVISION = re.compile(r"v\d+\.\d+\.\d+\.\w+")
_MLFLOW = {"experiments", "registered_models"}
_SHOWN = 3
_MIN_STATEMENT_MS = 5000


def engine_options(url: str) -> dict[str, Any]:
    """Return the arguments of `sqlalchemy.create_engine` for a database of studies."""
    parsed = make_url(url)
    connect: dict[str, Any] = {}
    if parsed.get_backend_name() == "sqlite":
        connect["timeout"] = _SQLITE_LOCK_S
    elif parsed.drivername == "postgresql+psycopg":
        # A pooler such as pgbouncer may give each transaction another session, which does not know
        # the statements that were prepared in the one before.
        connect = {**_LIBPQ, "prepare_threshold": None}
    elif parsed.drivername == "postgresql+psycopg2":
        connect = dict(_LIBPQ)
    # Without the ping a connection that died in the pool fails at its next use.
    return {"pool_pre_ping": True, "pool_size": CONNECTIONS, "connect_args": connect}


def check_database(url: str, *, study: str | None = None) -> None:
    """Check that studies can be kept in a database; nothing remains in it.

    Tables of studies must be there and take a row, or the schema must be empty and take a table.

    Args:
        url: as `nascore.search.database_url.resolve_url` returns it.
        study: the setting `search.study`.

    Raises:
        InputError: the database or the study belongs to another program, or a limit is too low.
        sqlalchemy.exc.SQLAlchemyError: it cannot be reached, or refuses the account or the write.
    """
    engine = create_engine(url, **engine_options(url))
    try:
        with engine.connect() as connection:
            own = inspect(connection).get_table_names()
            owner = _other_owner(connection, own)
            if owner:
                message = (
                    f"{owner}; a study needs a database or a schema of its own: name another "
                    "database, or another schema with ?options=-csearch_path%3DSCHEMA"
                )
                raise InputError.of(KEY, without_password(url), message)
            timeout_ms = _statement_timeout_ms(connection)
            if 0 < timeout_ms < _MIN_STATEMENT_MS:
                message = (
                    f"statement_timeout of the account is {timeout_ms} ms, too short for a study "
                    "that many workers use; raise it to 30 s (ALTER ROLE ... SET statement_timeout)"
                )
                raise InputError.of(KEY, without_password(url), message)
            is_new = STUDIES.name not in own
            if study is not None and not is_new:
                _refuse_foreign(connection, study)
            _try_write(connection, is_new=is_new)
            connection.rollback()
    finally:
        engine.dispose()


def _other_owner(connection: Connection, own: Collection[str]) -> str:
    """Return whose tables the database has; empty if they are Optuna's, or there are none.

    Args:
        connection: to the database.
        own: tables of the default schema.
    """
    # Alembic and Optuna find a table in any schema of the search path.
    visible = {name for name in ALL_TABLES if _is_visible(connection, name, own)}
    if _ALEMBIC in visible:
        revisions = connection.execute(text(f"SELECT version_num FROM {_ALEMBIC}")).scalars()
        if any(_OPTUNA_REVISION.fullmatch(str(one)) is None for one in revisions):
            return _name(own) or f"{_ALEMBIC} of another schema of the search path is not Optuna's"
    if STUDIES.name in visible:
        columns = {column["name"] for column in inspect(connection).get_columns(STUDIES.name)}
        return "" if "study_name" in columns else _name(own)
    return _name(set(own) - set(ALL_TABLES))


def _name(tables: Collection[str]) -> str:
    if set(tables) >= _MLFLOW:
        return "is MLflow's database"
    others = sorted(set(tables) - set(ALL_TABLES))
    more = ", ..." if len(others) > _SHOWN else ""
    names = ", ".join(others[:_SHOWN]) + more
    return f"is the database of another program (tables {names})" if others else ""


def _is_visible(connection: Connection, name: str, own: Collection[str]) -> bool:
    if connection.dialect.name != "postgresql":
        return name in own
    return connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None


def _refuse_foreign(connection: Connection, study: str) -> None:
    """Refuse a study with trials that this program has not made, which always have an identity."""
    ours = select(STUDY_ATTRIBUTES.c.study_id).where(STUDY_ATTRIBUTES.c.key == "identity")
    query = (
        select(STUDIES.c.study_name)
        .join(TRIALS, TRIALS.c.study_id == STUDIES.c.study_id)
        .where(STUDIES.c.study_name.in_([f"{study}/{arm}" for arm in ("method", "control")]))
        .where(STUDIES.c.study_id.not_in(ours))
    )
    name = connection.scalar(query.limit(1))
    if name is not None:
        raise InputError.of("search.study", name, OTHER_PROGRAM)


def _statement_timeout_ms(connection: Connection) -> int:
    """Return the longest time of a statement in PostgreSQL; 0 for no limit, and elsewhere."""
    if connection.dialect.name != "postgresql":
        return 0
    query = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
    return int(connection.scalar(text(query)) or 0)


def _try_write(connection: Connection, *, is_new: bool) -> None:
    name = f"nas_check_{uuid.uuid4().hex}"
    if is_new:
        connection.execute(text(f"CREATE TABLE {name} (id INTEGER)"))
        connection.execute(text(f"DROP TABLE {name}"))  # a rollback is not enough for MySQL
    else:
        connection.execute(insert(STUDIES).values(study_name=name))
