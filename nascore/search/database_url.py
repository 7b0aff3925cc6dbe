"""URL of the database of a study: where it is given, and how it is shown."""

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nascore.config.addresses import database_url
from nascore.errors import InputError

KEY = "search.storage"
_FROM_ENVIRONMENT = "env:"


def resolve_url(url: str, *, key: str = KEY) -> str:
    """Return the URL, or the value of the environment variable NAME of `env:NAME`.

    Raises:
        InputError: the variable is not set, or its value is not the URL of a database.
    """
    name = url.removeprefix(_FROM_ENVIRONMENT)
    if name != url:
        if not os.environ.get(name):
            raise InputError.of(key, url, f"the environment variable {name} is not set; set it")
        url = os.environ[name].strip()  # a secret that is made of a file ends with a line break
    if set(url) & {"\r", "\n"}:
        message = "has a line break in it, as a secret that is made of a file; remove it"
        raise InputError.of(key, f"env:{name}" if name != url else None, message)
    try:
        parsed = make_url(database_url(url))
        parsed.get_dialect()
        if "@" in (parsed.host or "") or (parsed.host and "@" in (parsed.database or "")):
            raise ValueError("a part of the password is taken for the address")
    except (ArgumentError, ValueError):  # the message may contain a part of the password
        raise InputError.of(
            key,
            None,
            "is no URL of a database; write postgresql://USER:PASSWORD@HOST/NAME, "
            "with %40, %2F and the like for special characters in the password",
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed.render_as_string(hide_password=False)


def file_url(path: Path) -> str:
    """Return the URL of an SQLite file, whose path may have `%` and `?` in it."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def without_password(url: str) -> str:
    """Return the URL without a password, which may also be in its query."""
    parsed = make_url(url)
    secret = [key for key in parsed.query if "pass" in key.lower()]
    return parsed.difference_update_query(secret).render_as_string(hide_password=True)
