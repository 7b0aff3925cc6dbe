"""The tree of settings that a pydantic model describes: its groups, and their dotted keys."""

import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

OF_KEY = "[key]"
"""Last part of pydantic's location of an error that concerns a key of a mapping."""


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the groups of settings in an annotation: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in models_in(part)]
    return []


def groups_in(annotation: Any) -> tuple[list[type[BaseModel]], bool]:
    """Return the groups of settings in an annotation, and whether they are values of a mapping."""
    if typing.get_origin(annotation) is dict:
        return models_in(typing.get_args(annotation)[1]), True
    return models_in(annotation), False


def keys_of(root: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Return every dotted key below a model once, those of groups included."""
    found: dict[str, None] = {}
    for name, field in root.model_fields.items():
        found[f"{prefix}{name}"] = None
        for model in models_in(field.annotation):
            found |= dict.fromkeys(keys_of(model, f"{prefix}{name}."))
    return iter(found)


def field_of(root: type[BaseModel], path: Iterable[str]) -> FieldInfo | None:
    """Return the setting at a path; None for one inside a list or a mapping."""
    *above, name = path
    groups = groups_at(root, above)
    return next((one.model_fields[name] for one in groups if name in one.model_fields), None)


def groups_at(root: type[BaseModel], path: Iterable[str]) -> list[type[BaseModel]]:
    """Return the group of settings at a path, or the members of the union there."""
    groups, is_key = [root], False  # is_key: of a mapping whose values are groups of settings
    for part in path:
        if is_key:
            is_key = False
            continue
        field = next((one.model_fields[part] for one in groups if part in one.model_fields), None)
        groups, is_key = groups_in(None if field is None else field.annotation)
    return groups


def locate(root: type[BaseModel], location: Iterable[Any]) -> tuple[str, ...]:
    """Return the path of keys of pydantic's location.

    The location has the names of union members as well, which are not keys.
    """
    path: list[str] = []
    models = [root]
    is_key = False  # of a mapping whose values are groups of settings
    for part in location:
        if part == OF_KEY:
            continue
        if is_key:
            path.append(str(part))
            is_key = False
            continue
        if len(models) > 1:
            models = [model for model in models if model.model_fields["name"].default == part]
            continue
        field = models[0].model_fields.get(part) if models else None
        models, is_key = groups_in(None if field is None else field.annotation)
        path.append(str(part))
    return tuple(path)
