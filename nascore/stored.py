"""Dataclasses that are stored as JSON with a version."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

_T = TypeVar("_T")


def read_stored(kind: type[_T], data: Mapping[str, Any], *, version: int, name: str) -> _T:
    """Return a dataclass from the JSON of `dataclasses.asdict`, with lists as tuples again.

    Args:
        kind: the dataclass; keys that it lacks are ignored.
        data: its fields and `version`.
        version: version that is read.
        name: name of the data in messages.

    Raises:
        ValueError: Another version wrote it, a field is missing, or a value is of another type.
    """
    if data.get("version") != version:
        raise ValueError(f"{name} version must be {version}, got {data.get('version')!r}")
    try:
        return TypeAdapter(kind).validate_python(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where} of the {name}: {first['msg']}") from error
