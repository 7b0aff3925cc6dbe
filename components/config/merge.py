"""Layers of a configuration: text into mappings, `key.path=value` settings, one laid over another.

Nothing is judged here but the form; `components.config.schema.parse` knows which keys there are.
"""

import copy
import shlex
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import yaml

from nascore.errors import InputError, Problem

_BUDGET = ("search", "budget")
_MERGE = "tag:yaml.org,2002:merge"


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a repeated key instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _MERGE:
                continue  # no key of a configuration: a merge, or what the base class refuses
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_mapping(text: str, name: str, value: str = "") -> dict[str, Any]:
    """A mapping from YAML (or JSON) text; a key that stands there twice is an error.

    Args:
        name: what a problem calls the text, such as `CONFIG`.
        value: what a problem shows beside it, such as a file's path.

    Raises:
        InputError: it is not YAML (with the line), or not a mapping.
    """
    try:
        data = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise InputError.of(name, value, f"is not valid YAML: {_where(error)}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError.of(name, value, "must hold keys and values, such as `seed: 1`")
    return data


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return problem
    return f"{problem}, in line {mark.line + 1}, column {mark.column + 1}"


def layer_of(settings: Iterable[str], name: str = "--set") -> tuple[dict[str, Any], list[Problem]]:
    """`key.path=value` settings as one layer (values are YAML), and those that are malformed."""
    layer: dict[str, Any] = {}
    problems = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            problems.append(Problem(name, setting, "write key.path=value, as in seed=1"))
            continue
        try:
            value = yaml.load(text, _UniqueKeys)
        except yaml.YAMLError as error:
            problems.append(Problem(key, text, f"is no YAML value ({_where(error)}); quote it"))
            continue
        if not _put(layer, path, value):
            problems.append(
                Problem(key, text, "lies below a key that another setting gives a plain value")
            )
    return layer, problems


def _put(layer: dict[str, Any], path: list[str], value: Any) -> bool:
    node = layer
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            return False
    node[path[-1]] = value
    return True


def apply_overrides(data: Mapping[str, Any], overrides: str) -> dict[str, Any]:
    """Lays settings over a configuration; they stand in one text, quoted as in a shell.

    Raises:
        InputError: listing every setting that is malformed.
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
    """`above` wins, key by key.

    A budget is replaced as a whole (a preset's `children` and a person's `seconds` are not two
    budgets), a space when its name changes, and the options of a method when the method changes.
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
