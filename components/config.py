"""The whole configuration of a run: read, completed, checked, and every problem told at once.

Sections are pydantic models; this module turns their errors into `Problem`s with the dotted key,
the value that was found and what to do, and knows how `key.path=value` settings are laid over a
file.
"""

import copy
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from components.settings import PromoteConfig, TrackingConfig
from nascore.config import DataConfig, LatencyConfig, SearchConfig, Section, TrainingConfig
from nascore.errors import InputError, Problem
from nascore.methods import METHODS

_BUDGET = ("search", "budget")


class Config(Section):
    """One run, from data to promotion."""

    method: str = "nases"
    seed: typing.Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig = DataConfig()
    search: SearchConfig = SearchConfig()
    train: TrainingConfig = TrainingConfig(epochs=40)
    latency: LatencyConfig = LatencyConfig()
    promote: PromoteConfig = PromoteConfig()
    tracking: TrackingConfig = TrackingConfig()


def parse(data: Mapping[str, Any]) -> Config:
    """A checked configuration, with the method's own options completed by their defaults.

    Raises:
        InputError: listing every problem of every section, those of `search.options` included.
    """
    problems: list[Problem] = []
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems += [_problem(Config, item, ()) for item in error.errors()]
    method = data.get("method", Config.model_fields["method"].default)
    options: Mapping[str, Any] = {}
    if method not in METHODS:
        problems.append(
            Problem("method", str(method), "unknown method" + _suggest(method, METHODS))
        )
    else:
        given = (data.get("search") or {}).get("options") if isinstance(data, Mapping) else None
        try:
            parsed = METHODS[method].options.model_validate(given or {})
            options = parsed.model_dump(mode="json")
        except ValidationError as error:
            problems += [
                _problem(METHODS[method].options, item, ("search", "options"))
                for item in error.errors()
            ]
    problems += _contradictions(config)
    if problems or config is None:
        raise InputError(problems)
    search = config.search.model_copy(update={"options": dict(options)})
    return config.model_copy(update={"search": search})


def dumps(config: Config) -> str:
    return config.model_dump_json()


def loads(text: str) -> Config:
    """Reads what `dumps` wrote; whole numbers that kfp made floats are whole again."""
    return parse(yaml.safe_load(text))


def apply_overrides(data: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Lays `key.path=value` settings over a configuration; values are YAML.

    Raises:
        InputError: listing every setting that is malformed.
    """
    layer: dict[str, Any] = {}
    problems = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            problems.append(Problem("--set", setting, "write key.path=value, as in seed=1"))
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            problems.append(Problem(key, text, "is no YAML value; quote it"))
            continue
        node = layer
        for part in path[:-1]:
            below = node.setdefault(part, {})
            if not isinstance(below, dict):
                problems.append(Problem(key, text, f"{part} is set to a value already"))
                break
            node = below
        else:
            node[path[-1]] = value
    if problems:
        raise InputError(problems)
    return merge(data, layer)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` wins, key by key. A budget or a space is replaced as a whole when its kind changes:
    a preset's `children` and a person's `seconds` are not two budgets."""
    return _merge(below, above, ())


def _merge(below: Any, above: Any, path: tuple[str, ...]) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return copy.deepcopy(above)
    replaced = path == _BUDGET or (
        "name" in above and "name" in below and above["name"] != below["name"]
    )
    merged: dict[str, Any] = {} if replaced else copy.deepcopy(dict(below))
    for key, value in above.items():
        merged[key] = _merge(merged.get(key), value, (*path, str(key)))
    return merged


# --- from pydantic's errors to sentences ----------------------------------------------------


def _problem(root: type[BaseModel], error: Any, prefix: tuple[str, ...]) -> Problem:
    location = [str(part) for part in error["loc"]]
    path = [part for part in location if part not in _union_tags(root)]
    key = ".".join((*prefix, *path))
    value = error.get("input")
    kind = error["type"]
    if kind == "extra_forbidden":
        fields = _fields_at(root, location[:-1])
        message = "unknown key" + _suggest(path[-1], fields)
        close = difflib.get_close_matches(path[-1], fields, n=1)
        if close:
            full = ".".join((*prefix, *path[:-1], close[0]))
            message = f"unknown key; did you mean {full!r}?"
        return Problem(key, _short(value), message)
    if kind == "missing":
        return Problem(key, "", "is missing; give a value")
    if kind == "union_tag_invalid":
        allowed = error["ctx"]["expected_tags"]
        found = error["ctx"]["tag"]
        return Problem(f"{key}.name", found, f"must be one of {allowed}")
    if kind == "union_tag_not_found":
        return Problem(f"{key}.name", "", "is missing; name the space")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return Problem(key, _short(value), "must be a group of keys")
    if kind == "value_error":
        return Problem(key, "", str(error["ctx"]["error"]))
    message = error["msg"][0].lower() + error["msg"][1:]
    return Problem(key, _short(value), message.replace("input should be", "must be"))


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _suggest(word: object, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(str(word), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if known else "; nothing can be set here"


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The section classes inside an annotation (unions, Annotated)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []


def _union_tags(root: type[BaseModel]) -> set[str]:
    """Names that pydantic puts into a location for a member of a union; no part of the key."""
    tags = set()
    for field in root.model_fields.values():
        models = _models(field.annotation)
        if len(models) > 1:
            tags |= {str(model.model_fields["name"].default) for model in models}
        for model in models:
            tags |= _union_tags(model)
    return tags


def _fields_at(root: type[BaseModel], location: list[str]) -> list[str]:
    models = [root]
    for part in location:
        named = [m for m in models if part in m.model_fields]
        if named:
            models = [x for m in named for x in _models(m.model_fields[part].annotation)]
        else:  # a union's tag
            models = [m for m in models if m.model_fields["name"].default == part]
    return [name for model in models for name in model.model_fields]


def _contradictions(config: Config | None) -> list[Problem]:
    """What no single section can see."""
    if config is None:
        return []
    problems = []
    for key, training in (("search.child", config.search.child), ("train", config.train)):
        size = config.data.image_size
        if size is not None and training.crop_padding >= size:
            problems.append(
                Problem(
                    f"{key}.crop_padding",
                    str(training.crop_padding),
                    f"must be smaller than data.image_size={size}; 4 suits 32 pixels",
                )
            )
        if training.flip and config.data.source in ("digits", "omniglot"):
            problems.append(
                Problem(
                    f"{key}.flip", "true", f"mirrored {config.data.source} are wrong; set false"
                )
            )
    return problems
