"""From pydantic's errors to `Problem`s: the dotted key, the value found, and what to do."""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from nascore.errors import Problem
from nascore.redaction import redact, redact_setting

_MAX_SHOWN = 80
OF_KEY = "[key]"
"""Ends the location of what is wrong with a key of a mapping, and not with its value."""
# What a person may have put a password into.
_SECRET = re.compile(r"(?i)pass|pwd|token|secret|credential|key$")
_RENAMED = {
    ("cluster", "state_volume"): "write cluster.state=pvc:NAME",
    ("cluster", "backoff_s"): "write cluster.pod_retry_pause_s, or cluster.restart_pause_s",
    ("cluster", "steps", "*", "retries"): (
        "write restarts for crashes; cluster.pod_retries is for lost pods"
    ),
}
_REFERENCES = (("cluster", "secrets"), ("cluster", "config_maps"))


def problem_of(root: type[BaseModel], error: Any, prefix: tuple[str, ...] = ()) -> Problem:
    """One of `ValidationError.errors()` in our words.

    Args:
        root: the model that was validated.
        prefix: where that model stands in the whole configuration.
    """
    own, known = locate(root, error["loc"])
    path = (*prefix, *own)
    key, value, kind = ".".join(path), error.get("input"), error["type"]
    if error["loc"][-1:] == (OF_KEY,):
        return _problem_of_key(path, error)
    if kind == "extra_forbidden":
        elsewhere = list(_keys(root)) if len(path) == len(own) else []
        renamed = _RENAMED.get(path) or _RENAMED.get((*path[:2], "*", *path[3:]))
        if renamed is not None:
            return Problem(key, _short(value), f"has another name now: {renamed}")
        shown = "" if _SECRET.search(path[-1]) else _short(value)
        return Problem(key, shown, "unknown key" + _suggest_key(path, known, elsewhere))
    if kind == "missing":
        return Problem(key, "", "is missing; give a value")
    if kind == "union_tag_invalid":
        return Problem(
            f"{key}.name", error["ctx"]["tag"], f"must be one of {error['ctx']['expected_tags']}"
        )
    if kind == "union_tag_not_found":
        return Problem(f"{key}.name", "", "is missing; name one")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return Problem(key, _short(value), "must be a group of keys")
    if kind == "value_error":
        return Problem(key, _short(value), str(error["ctx"]["error"]))
    if path[:2] in _REFERENCES:
        message = "must be NAME/KEY of a Secret or ConfigMap, which holds the value"
        return Problem(key, "", message)
    message = error["msg"][0].lower() + error["msg"][1:]
    return Problem(key, _short(value), message.replace("input should be", "must be"))


def _problem_of_key(path: tuple[str, ...], error: Any) -> Problem:
    """What is wrong with a key of a mapping: not one of those that may be there, or a bad name."""
    context = error.get("ctx") or {}
    expected = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    said = str(context.get("error") or error["msg"])
    if expected:
        said = "unknown key" + suggest(path[-1], expected)
    return Problem(".".join(path), "", said)


def reject_booleans(
    root: type[BaseModel], data: object, prefix: tuple[str, ...] = ()
) -> Iterator[Problem]:
    """Yes or no where another value belongs: pydantic takes True for 1, so `yes` is one child."""
    if not isinstance(data, Mapping):
        return
    for name, value in data.items():
        field = root.model_fields.get(name)
        if field is None:
            continue
        if isinstance(value, bool) and field.annotation is not bool:
            shown = "true" if value else "false"
            yield Problem(".".join((*prefix, name)), shown, "must not be yes or no; give a value")
        models = _models(field.annotation)
        named = [m for m in models if len(models) == 1 or _is_named(m, value)]
        for model in named[:1]:
            yield from reject_booleans(model, value, (*prefix, name))


def _is_named(model: type[BaseModel], data: object) -> bool:
    return isinstance(data, Mapping) and model.model_fields["name"].default == data.get("name")


def suggest(word: object, known: Iterable[str]) -> str:
    """How a message about an unknown word goes on: the nearest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(str(word), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if known else "; nothing can be set here"


def _short(value: Any) -> str:
    """A value as a message shows it; a whole group of keys says nothing."""
    if isinstance(value, Mapping | BaseModel):
        return ""
    text = repr(redact_setting(value)) if isinstance(value, str) else redact(str(value))
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def locate(root: type[BaseModel], location: Iterable[Any]) -> tuple[tuple[str, ...], list[str]]:
    """The path of keys, and the keys that are known at its end.

    pydantic's location holds the names of union members as well, which are no keys.
    """
    path: list[str] = []
    models, known = [root], list(root.model_fields)
    is_key = False  # of a mapping, whose values are sections
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
        known = [name for model in models for name in model.model_fields]
        field = models[0].model_fields.get(part) if models else None
        annotation = None if field is None else field.annotation
        if typing.get_origin(annotation) is dict:
            annotation, is_key = typing.get_args(annotation)[1], True
        models = _models(annotation)
        path.append(str(part))
    return tuple(path), known


def _suggest_key(path: tuple[str, ...], known: list[str], elsewhere: list[str]) -> str:
    """The nearest key at the same level, else keys elsewhere that bear the name."""
    close = difflib.get_close_matches(path[-1], known, n=1)
    if close:
        return f"; did you mean {'.'.join([*path[:-1], close[0]])!r}?"
    namesakes = [key for key in elsewhere if key.split(".")[-1] == path[-1]]
    if namesakes:
        return f"; did you mean {' or '.join(map(repr, namesakes))}?"
    return suggest(path[-1], known)


def _keys(root: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key below a model, once each."""
    seen = set()
    for name, field in root.model_fields.items():
        seen.add(f"{prefix}{name}")
        for model in _models(field.annotation):
            seen.update(_keys(model, f"{prefix}{name}."))
    yield from sorted(seen)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The section classes inside an annotation (unions, Annotated)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []
