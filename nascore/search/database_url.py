"""URL of the database of a study: where it is given, and how it is shown."""

import os

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from nascore.errors import InputError

KEY = "search.storage"
_FROM_ENVIRONMENT = "env:"


def resolve_url(url: str, *, key: str = KEY) -> str:
    """The URL itself, or what the environment variable NAME of `env:NAME` holds.

    Raises:
        InputError: the variable is not set, or the text is no URL of a database.
    """
    name = url.removeprefix(_FROM_ENVIRONMENT)
    if name != url:
        if not os.environ.get(name):
            raise InputError.of(key, url, f"the environment variable {name} is not set; set it")
        url = os.environ[name]
    try:
        parsed = make_url(url)
        parsed.get_dialect()
        if "@" in (parsed.host or "") or (parsed.host and "@" in (parsed.database or "")):
            raise ValueError("the password goes on where the address should be")
    except (ArgumentError, ValueError):  # whose words may contain a part of the password
        raise InputError.of(
            key,
            None,
            "is no URL of a database; write postgresql://USER:PASSWORD@HOST/NAME, "
            "with %40, %2F and the like for special characters in the password",
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed.render_as_string(hide_password=False)


def without_password(url: str) -> str:
    """The URL as it may be shown; a password may stand in its query, too."""
    parsed = make_url(url)
    secret = [key for key in parsed.query if "pass" in key.lower()]
    return parsed.difference_update_query(secret).render_as_string(hide_password=True)
