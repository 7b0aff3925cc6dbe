"""Which errors of the study's database may end by themselves, by the common table of errors."""

import optuna
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from nascore.errors import InputError, ResourceUnavailable
from nascore.search.database_url import KEY, without_password
from nascore.service_errors import ErrorKind, Row, find

OPENING = (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ImportError)
"""Errors of a database that cannot be opened."""


_STARTING = (
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
    "the database system is not yet accepting connections",
)


def is_outage(error: BaseException) -> bool:
    """Return whether it may end by itself: no connection, a server that shuts down, a lock."""
    if not isinstance(error, (SQLAlchemyError, optuna.exceptions.StorageInternalError)):
        return False
    row, cause = _row(error), _of_driver(error)
    if row is not None or cause is None:
        return row is not None and row.kind is ErrorKind.TRANSIENT
    return cause.connection_invalidated or type(cause).__name__ in (
        "OperationalError",
        "InterfaceError",
        "InternalError",
    )


def is_final(error: BaseException) -> bool:
    """Return whether a retry is useless: a wrong account, a full disk, another program's schema."""
    row = _row(error)
    if row is not None:
        return row.kind is not ErrorKind.TRANSIENT
    return isinstance(error, (RuntimeError, ArgumentError, ImportError))


def is_starting(error: BaseException) -> bool:
    """Return whether a server of PostgreSQL was reached and does not take connections yet.

    The code of this error, 57P03, is not in psycopg's exceptions about failed connections.
    """
    if not isinstance(error, ResourceUnavailable):
        return False
    return any(state in str(error.__cause__) for state in _STARTING)


def report(error: BaseException) -> str:
    """Return the message of the database, which is that of the innermost error, and a remedy."""
    remedy = _remedy(error)
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    message = lines[0] if lines else type(error).__name__
    return f"{message}; {remedy}" if remedy else message


def input_error(url: str, error: BaseException) -> InputError:
    """Return the error about a database that cannot be opened, with what to do.

    Args:
        url: of the database.
        error: of SQLAlchemy or Optuna.

    Returns:
        `ResourceUnavailable` where the same input may work later, such as with a full disk.
    """
    if isinstance(error, ImportError):
        message = f"needs a driver that is not installed ({error})"
        return InputError.of(KEY, without_password(url), message)
    kind = InputError if is_final(error) and not _is_full(error) else ResourceUnavailable
    advice = "" if _remedy(error) else "; check the address, the account and that the server is up"
    return kind.of(KEY, without_password(url), f"cannot be used: {report(error)}{advice}")


def _is_full(error: BaseException) -> bool:
    row = _row(error)
    return row is not None and "SQLITE_FULL" in row.code


def _remedy(error: BaseException) -> str:
    row = _row(error)
    return "" if row is None else row.remedy


def _of_driver(error: BaseException) -> DBAPIError | None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        # It may hide behind a later error of the same session.
        cause = cause.__cause__ or cause.__context__
    return cause


def _row(error: BaseException) -> Row | None:
    cause = _of_driver(error)
    if cause is None:
        return None
    names = (getattr(cause.orig, name, None) for name in ("sqlstate", "sqlite_errorname"))
    code = next((name for name in names if name), "")
    return find("database", code=code, text=str(cause.orig))
