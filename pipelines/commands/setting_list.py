"""List of the settings of a configuration, made of the models that validate it."""

import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from components.config.model_tree import groups_in
from components.config.schema import config_class

_UNITS = {
    "_s": "s",
    "_ms": "ms",
    "seconds": "s",
    "gpu_hours": "h",
    "_hours": "h",
    "_days": "d",
    "_mb": "MB",
    "image_size": "pixels",
    "crop_padding": "pixels",
    "cutout": "pixels",
}
"""By the end of a name."""
_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}
_SPACE = "search.space.name"


def settings_of(methods: Iterable[str]) -> list[dict[str, Any]]:
    """Return `{key, type, default, unit, description}` of each setting, once for each key.

    Args:
        methods: whose options are listed, as `search.options.NAME`.
    """
    found = [row for method in methods for row in _rows(config_class(method), "")]
    rows: dict[str, dict[str, Any]] = {}
    for row in found:
        first = rows.setdefault(row["key"], row)
        if row["key"] == _SPACE and row["type"] not in first["type"].split("|"):
            first["type"] += f"|{row['type']}"
    return [rows[key] for key in sorted(rows)]


def _rows(
    model: type[BaseModel], prefix: str, preset: BaseModel | None = None
) -> Iterator[dict[str, Any]]:
    """Return the settings of a group.

    Args:
        model: the group.
        prefix: of its keys.
        preset: the default of the group in the section above; None for the defaults of its fields.
    """
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        below, is_named = groups_in(field.annotation)
        value = _default(field) if preset is None else getattr(preset, name)
        for one in below:
            here = value if type(value) is one else None
            yield from _rows(one, f"{key}.NAME." if is_named else f"{key}.", here)
        if not below:
            yield {
                "key": key,
                "type": _type(field.annotation),
                "default": to_jsonable_python(value),
                "unit": next((unit for end, unit in _UNITS.items() if name.endswith(end)), ""),
                "description": _description(model, name),
            }


def _description(model: type[BaseModel], name: str) -> str:
    """Return the description of a field, its own or that of a base class, with its range."""
    field = model.model_fields[name]
    classes = (one for one in model.__mro__ if issubclass(one, BaseModel))
    found = (one.model_fields[name].description for one in classes if name in one.model_fields)
    text = " ".join(next(filter(None, found), "").split())
    bounds = [
        form.format(f"{value:,g}" if abs(value) < 1e6 else value)
        for constraint in _constraints(field)
        for name, form in _BOUNDS.items()
        if (value := getattr(constraint, name, None)) is not None
    ]
    return f"{text} Range: {', '.join(bounds)}." if bounds and text else text


def _constraints(field: FieldInfo) -> Iterator[Any]:
    """Return the constraints of a field, or of the member of its union that has some."""
    yield from field.metadata
    for part in typing.get_args(field.annotation):
        for annotated in getattr(part, "__metadata__", ()):
            yield from annotated.metadata if isinstance(annotated, FieldInfo) else [annotated]


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def _type(annotation: Any) -> str:
    """Return a type as it is written in a configuration."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (None, type(None)):
        return "null"
    if origin is Literal:
        return "|".join(str(part) for part in parts)
    if origin in (Union, types.UnionType):
        return "|".join(_type(part) for part in parts)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is dict:
        return f"map of {_type(parts[1])}"
    if origin is not None:
        return f"list of {_type(parts[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    return str(getattr(annotation, "__name__", annotation))
