"""From pydantic's errors to `Problem`s: the dotted key, the value found, and what to do."""

import re
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel

from components.config.model_tree import OF_KEY, field_of, keys_of, locate, models_in
from components.config.renamed import RENAMED
from components.config.unknown_keys import suggest, unknown_key
from components.config.wrong_type import wrong_type, yes_or_no
from nascore.errors import Problem
from nascore.redaction import redact, redact_setting

_MAX_SHOWN = 80
# Names of keys whose value may be a password.
_SECRET = re.compile(r"(?i)pass|pwd|token|secret|credential|key$")
_REFERENCES = (("cluster", "secrets"), ("cluster", "config_maps"))


def problems_of(root: type[BaseModel], error: Any, data: object) -> Iterator[Problem]:
    """Describe one of `ValidationError.errors()`; an unknown group may have several old keys.

    Args:
        root: the model that was validated.
        error: the error.
        data: what was validated.
    """
    path = locate(root, error["loc"])
    key, value, kind = ".".join(path), error.get("input"), error["type"]
    if error["loc"][-1:] == (OF_KEY,):
        yield _problem_of_key(path, error)
    elif kind == "extra_forbidden":
        describe = partial(unknown_key, root, error["loc"], data)
        yield from _unknown(path, value, describe, set(keys_of(root)))
    elif kind == "missing":
        yield Problem(key, "", "is missing; give a value")
    elif kind == "union_tag_invalid":
        expected = f"must be one of {error['ctx']['expected_tags']}"
        yield Problem(f"{key}.name", error["ctx"]["tag"], expected)
    elif kind == "union_tag_not_found":
        yield Problem(f"{key}.name", "", "is missing; name one")
    elif kind in ("model_type", "dict_type", "model_attributes_type"):
        yield Problem(key, short(value), "must be a group of keys" + _as_group(path[-1:], value))
    elif path[:2] in _REFERENCES:  # the value is not shown, since it may be the secret itself
        message = "must be NAME/KEY of a Secret or ConfigMap, which holds the value"
        yield Problem(key, "", f"{message}; write {path[-1]}: nas-secrets/KEY")
    elif kind == "value_error":
        yield Problem(key, short(value), str(error["ctx"]["error"]))
    else:
        field = field_of(root, path)
        yield Problem(key, short(value), wrong_type(path[-1], value, error, field))


def _as_group(name: tuple[str, ...], value: Any) -> str:
    """Return `KEY=VALUE`, the form of kubectl, as YAML."""
    key, equals, text = value.partition("=") if isinstance(value, str) else ("", "", "")
    return f'; write {name[0]}: {{{key}: "{text}"}}' if name and equals else ""


def _problem_of_key(path: tuple[str, ...], error: Any) -> Problem:
    """Describe an error in a key of a mapping: not one of the allowed ones, or a bad name."""
    context = error.get("ctx") or {}
    expected = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    message = str(context.get("error") or error["msg"])
    if expected:
        message = "unknown key" + suggest(path[-1], expected, ".".join([*path[:-1], ""]))
    return Problem(".".join(path), "", message)


def _unknown(
    path: tuple[str, ...], value: Any, describe: Callable[[tuple[str, ...]], str], tree: set[str]
) -> Iterator[Problem]:
    """Describe an unknown key, or the keys of an unknown group that had settings once.

    Args:
        path: of the key.
        value: the value in the configuration.
        describe: returns the message about an unknown key that was not renamed, by its path.
        tree: all dotted keys.
    """
    key = ".".join(path)
    new = RENAMED.get(key)
    if new in tree:
        shown = short(value)
        written = f"write {new}=" + shown.strip("'") if shown else f"write {new}"
        yield Problem(key, shown, f"was renamed to {new}; {written}")
    elif isinstance(value, Mapping) and any(
        old.startswith(f"{key}.") and new in tree for old, new in RENAMED.items()
    ):
        for name, below in value.items():
            yield from _unknown((*path, str(name)), below, describe, tree)
    else:
        shown = "" if _SECRET.search(path[-1]) else short(value)
        yield Problem(key, shown, describe(path))


def reject_booleans(
    root: type[BaseModel], data: object, prefix: tuple[str, ...] = ()
) -> Iterator[Problem]:
    """Report yes or no where another value belongs: pydantic takes True for 1."""
    if not isinstance(data, Mapping):
        return
    for name, value in data.items():
        field = root.model_fields.get(name)
        if field is None:
            continue
        if isinstance(value, bool) and field.annotation is not bool:
            key = ".".join((*prefix, name))
            message = yes_or_no(name, field, is_text=_is_text(field.annotation))
            yield Problem(key, short(value), message)
        models = models_in(field.annotation)
        named = [m for m in models if len(models) == 1 or _is_named(m, value)]
        for model in named[:1]:
            yield from reject_booleans(model, value, (*prefix, name))


def _is_text(annotation: Any) -> bool:
    return annotation is str or str in typing.get_args(annotation)


def _is_named(model: type[BaseModel], data: object) -> bool:
    return isinstance(data, Mapping) and model.model_fields["name"].default == data.get("name")


def short(value: Any) -> str:
    """Return a value as a message shows it; empty for a group of keys."""
    if isinstance(value, Mapping | BaseModel):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(redact_setting(value)) if isinstance(value, str) else redact(str(value))
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
