"""List of the settings of a configuration, made of the models that validate it."""

import json
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from components.config.model_tree import groups_in
from components.config.schema import Config, config_class
from nascore.config import CommonTrainingConfig, SearchConfig
from nascore.methods.registry import METHODS
from nascore.methods.requirements import RunSettings
from nascore.spaces.config import SPACE_SECTIONS
from nascore.spaces.section import SpaceSection

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
_SPACE, _OPTIONS = "search.space.", "search.options."
_SPACE_NAME = "search.space.name"


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting of one group; `default` is JSON."""

    key: str
    type: str
    default: str
    unit: str
    description: str


_Found = tuple[_Setting, str]
"""A setting, and the space or the method that has it; empty for a setting of all runs."""


def settings_of(methods: Iterable[str], config: Config | None = None) -> list[dict[str, Any]]:
    """Return `{key, type, default, unit, description}` of each setting, once for each key.

    The description names the methods or spaces where not all have the setting, or where it differs.

    Args:
        methods: whose options are listed, as `search.options.NAME`, with the spaces they take.
        config: its values are listed as defaults; None for the defaults of the classes.
    """
    methods = [*methods]
    spaces = {method: _spaces_of(method) for method in methods}
    chosen = "" if config is None else config.search.space.name
    owners = {
        _OPTIONS: methods,
        _SPACE: sorted(
            {name: None for names in spaces.values() for name in names}, key=chosen.__ne__
        ),
    }
    found: dict[str, list[_Found]] = {}
    for method in methods:
        for setting, owner in _settings(config_class(method), "", method, values=config):
            if not setting.key.startswith(_SPACE) or owner in spaces[method]:
                found.setdefault(setting.key, []).append((setting, owner))
    return [
        _row(found[key], next((owners[start] for start in owners if key.startswith(start)), []))
        for key in sorted(found)
    ]


def _spaces_of(method: str) -> list[str]:
    """Return the names of the spaces that a method takes with the defaults of both."""
    taken = []
    options = METHODS[method].options()
    for section in SPACE_SECTIONS:
        space = section.model_validate({})
        run = RunSettings(
            method=method,
            search=SearchConfig(space=space),
            training=CommonTrainingConfig(),
            split_by=METHODS[method].split_by,
        )
        is_refused = any(problem.key == _SPACE_NAME for problem in METHODS[method].problems(run))
        if not is_refused and not options.unfit_for(space):
            taken.append(space.name)
    return taken


def _row(found: list[_Found], owners: list[str]) -> dict[str, Any]:
    """Return the row of one key.

    Args:
        found: its settings, with their owners.
        owners: the spaces or methods that are listed, in the order of the row; empty for a setting
            of all runs.
    """
    variants: dict[_Setting, list[str]] = {}
    for setting, owner in sorted(found, key=lambda one: owners.index(one[1]) if owners else 0):
        names = variants.setdefault(setting, [])
        names += [] if owner in names else [owner]
    first = next(iter(variants))
    types = list(dict.fromkeys(setting.type for setting in variants))
    is_list = any(one.startswith("list of ") for one in types)
    return {
        "key": first.key,
        "type": (" or " if is_list else "|").join(types),
        "default": json.loads(first.default),
        "unit": first.unit,
        "description": first.description
        if first.key == _SPACE_NAME
        else _joined(variants, len(owners)),
    }


def _joined(variants: dict[_Setting, list[str]], num_owners: int) -> str:
    """Return the descriptions of a setting, with the owners of each where they differ."""
    first, *others = variants
    names = {setting: ", ".join(owners) for setting, owners in variants.items()}
    if not others:
        is_of_some = len(variants[first]) < num_owners
        kind = "space" if first.key.startswith(_SPACE) else "method"
        kind += "s" if len(variants[first]) > 1 else ""
        only = f" Only for the {kind} {names[first]}." if is_of_some else ""
        return f"{first.description}{only}"
    defaults = "; ".join(f"{one.default} for {names[one]}" for one in variants)
    texts: dict[str, list[str]] = {}
    for setting, owners in variants.items():
        texts.setdefault(setting.description, []).extend(owners)
    parts = [
        f"{', '.join(owners)}: {text}" if len(texts) > 1 else text for text, owners in texts.items()
    ]
    if len({setting.default for setting in variants}) > 1:
        parts.append(f"Defaults: {defaults}; the default of the row is the first.")
    elif len(texts) == 1:
        parts.append(
            "Types: " + "; ".join(f"{one.type} for {names[one]}" for one in variants) + "."
        )
    return " ".join(parts)


def _settings(
    model: type[BaseModel], prefix: str, owner: str, *, values: BaseModel | None
) -> Iterator[_Found]:
    """Return the settings of a group, with their owners.

    Args:
        model: the group.
        prefix: prefix of its keys.
        owner: the method, or below a space the name of the space.
        values: the group whose values are the defaults; None for the defaults of the fields.
    """
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        below, is_named = groups_in(field.annotation)
        value = _default(field) if values is None else getattr(values, name)
        for one in below:
            here = value if isinstance(value, one) else None
            start = f"{key}.NAME." if is_named else f"{key}."
            space = one.model_fields["name"].default if issubclass(one, SpaceSection) else owner
            yield from _settings(one, start, space, values=here)
        if not below:
            unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
            default = json.dumps(to_jsonable_python(value))
            described = _description(model, name)
            is_owned = key.startswith((_SPACE, _OPTIONS))
            setting = _Setting(key, _type(field.annotation), default, unit, described)
            yield setting, owner if is_owned else ""


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
