"""Layers of a configuration: parsing of YAML and of `key.path=value` settings, and merging.

Only the form is checked here; `components.config.schema.parse` checks keys and values.
"""

import copy
import re
import shlex
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import yaml

from nascore.errors import InputError, Problem

_BUDGET = ("search", "budget")
_REMEDIES = {
    "'\\t'": "; indent with spaces instead of tabs",
    "is given twice": "; remove one of them",
    "mapping values are not allowed": "; put a value that contains ': ' in quotes",
    "cannot start any token": "; put a value that begins with this character in quotes",
    "another document": "; remove the line --- between the documents",
    "could not determine a constructor": "; remove the tag that begins with '!'",
}
"""What to do about an error of PyYAML, by a part of its message."""
_MERGE = "tag:yaml.org,2002:merge"
_OCTAL = re.compile(r"[-+]?0[0-7_]+")


class _AmbiguousNumber(Exception):
    """A number that YAML 1.1 reads in another base than most users expect."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that refuses what PyYAML reads differently than a user expects.

    That is a repeated key, of which PyYAML takes the last one, and numbers in octal or to base 60.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _MERGE:
                continue  # a merge key, or one that the base class refuses
            key = self.construct_object(key_node)
            if key in seen:
                first = f"key {key!r} is given twice (first in line {seen[key]})"
                raise yaml.constructor.ConstructorError(None, None, first, key_node.start_mark)
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """Return a whole number or a fraction.

        Raises:
            _AmbiguousNumber: it is `010`, which is 8 in YAML 1.1, or `1:30`, which is 90.
        """
        is_whole = node.tag == "tag:yaml.org,2002:int"
        read = self.construct_yaml_int if is_whole else self.construct_yaml_float
        number: float = read(node)
        text = node.value
        if is_whole and _OCTAL.fullmatch(text):
            decimal = int(text.replace("_", ""))
            fault = f"{text} is octal in YAML, which is {number}; write {decimal}"
        elif ":" in text:
            fault = f"{text} is a number to base 60 in YAML; write {number:g}"
        else:
            return number
        fault += f', or "{text}" in quotes if it is a text'
        raise _AmbiguousNumber(fault, node.start_mark.line + 1)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def read_mapping(text: str, name: str, value: str = "") -> dict[str, Any]:
    """Parse a mapping from YAML or JSON text.

    Args:
        text: of the mapping.
        name: name of the text in an error message, such as `CONFIG`.
        value: value in an error message, such as the path of the file.

    Raises:
        InputError: the text is not YAML (with the line), not a mapping, has a key twice, or has a
            number such as 010.
    """
    try:
        data = _load(text)
    except _AmbiguousNumber as error:
        raise InputError.of(name, value, f"line {error.line}: {error}") from error
    except yaml.YAMLError as error:
        raise InputError.of(name, value, f"is not valid YAML: {_where(error)}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError.of(name, value, "must be a mapping of keys to values, such as `seed: 1`")
    return data


def _load(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except ValueError as error:  # PyYAML leaves a date such as 2026-13-01 to datetime
        raise yaml.YAMLError(f"{error}; put a text that looks like a date in quotes") from error


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return problem
    remedy = next((text for sign, text in _REMEDIES.items() if sign in problem), "")
    return f"{problem}, in line {mark.line + 1}, column {mark.column + 1}{remedy}"


def layer_of(settings: Iterable[str], name: str = "--set") -> tuple[dict[str, Any], list[Problem]]:
    """Return `key.path=value` settings as one layer (values are YAML), and the malformed ones.

    Args:
        settings: such as `search.budget.children=4`.
        name: name of the settings in an error message.
    """
    layer: dict[str, Any] = {}
    problems = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            problems.append(Problem(name, setting, "write key.path=value, as in seed=1"))
            continue
        try:
            value = _load(text)
        except _AmbiguousNumber as error:
            problems.append(Problem(key, text, str(error)))
            continue
        except yaml.YAMLError as error:
            problems.append(Problem(key, text, f"is not a YAML value ({_where(error)}); quote it"))
            continue
        if (group := _put(layer, path, value)) is not None:
            message = f"{group} is given a value as a whole by another setting; give one of them"
            problems.append(Problem(key, text, message))
    return layer, problems


def _put(layer: dict[str, Any], path: list[str], value: Any) -> str | None:
    """Set a value; return the key of a group that has a plain value already."""
    node = layer
    for depth, part in enumerate(path[:-1], start=1):
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            return ".".join(path[:depth])
    node[path[-1]] = value
    return None


def apply_overrides(data: Mapping[str, Any], overrides: str) -> dict[str, Any]:
    """Merge settings into a configuration.

    Args:
        data: the configuration.
        overrides: `key.path=value` settings in one text, quoted as in a shell.

    Raises:
        InputError: listing every malformed setting.
    """
    try:
        settings = shlex.split(overrides)
    except ValueError as error:
        raise InputError.of("overrides", overrides, f"cannot be split ({error})") from error
    layer, problems = layer_of(settings, "overrides")
    if problems:
        raise InputError(problems)
    return merge(data, layer)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two layers, key by key; a value of `above` replaces that of `below`.

    A budget is replaced as a whole (`children` of a preset and `seconds` of a file are one budget),
    a space if its name changes, and the options of a method if the method changes.
    """
    below = dict(below)
    if {"method"} <= above.keys() & below.keys() and above["method"] != below["method"]:
        search = below.get("search")
        if isinstance(search, Mapping):
            below["search"] = {key: search[key] for key in search if key != "options"}
    merged: dict[str, Any] = _merge(below, above, ())
    return merged


def _merge(below: Any, above: Any, path: tuple[str, ...]) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return copy.deepcopy(above)
    renamed = "name" in above and "name" in below and above["name"] != below["name"]
    merged: dict[str, Any] = {} if renamed or path == _BUDGET else copy.deepcopy(dict(below))
    for key, value in above.items():
        merged[key] = _merge(merged.get(key), value, (*path, str(key)))
    return merged
