"""Passwords in settings, which files, logs and tracking would show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nascore.errors import Problem
from nascore.redaction import redact_setting

_MESSAGE = (
    "holds a user name, a password or a token, which files and logs would show; leave it out, "
    "and give it to the steps as an environment variable, from a Secret"
)


def open_secrets(data: Mapping[str, Any], *, allowed: Sequence[str] = ()) -> list[Problem]:
    """Return the settings that contain a password.

    Args:
        data: a configuration, or a layer of one.
        allowed: keys that may contain one.
    """
    return [
        Problem(key, redact_setting(value), _MESSAGE)
        for key, value in _texts(data)
        if key not in allowed and redact_setting(value) != value
    ]


def _texts(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Return all texts of a configuration with their keys; a key may contain a password, too."""
    if isinstance(data, str):
        yield ".".join(path), data
    elif isinstance(data, Mapping):
        for name, value in data.items():
            yield from _texts(value, (*path, str(name)))
            if redact_setting(str(name)) != str(name):
                yield ".".join(path), str(name)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value, path)
