"""Messages about unknown keys: what has such a setting, or which key was meant."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from components.config.model_tree import groups_at, keys_of
from nascore.methods.registry import METHODS

_OPTIONS = ("search", "options")
_MAX_NAMED = 12


def unknown_key(
    root: type[BaseModel], location: tuple[Any, ...], data: object, path: tuple[str, ...]
) -> str:
    """Return what is wrong with a key that its group does not have.

    Args:
        root: the model of the whole configuration.
        location: of pydantic's error, which names the chosen member of a union.
        data: the whole configuration, before validation.
        path: of the key.
    """
    *above, name = path
    groups = groups_at(root, above)
    if len(groups) > 1:
        chosen = str(location[-2])
        owners = [_name(group) for group in groups if name in group.model_fields]
        groups = [group for group in groups if _name(group) == chosen]
        if owners:
            return _belongs(f"the {above[-1]} {_listed(owners)}", chosen, groups)
    if path[:2] == _OPTIONS:
        owners = [
            method
            for method, its in METHODS.items()
            if any(name in group.model_fields for group in groups_at(its.options, path[2:-1]))
        ]
        if owners:
            chosen = ".".join([_method(root, data), *above[2:]])
            if not groups:  # the key is below an unknown one
                chosen, groups = _method(root, data), groups_at(root, _OPTIONS)
            return _belongs(_listed(owners), chosen, groups)
    known = [name for group in groups for name in group.model_fields]
    return "unknown key" + _nearest(path, known, list(keys_of(root)))


def suggest(word: object, known: Iterable[str], prefix: str = "") -> str:
    """Return the end of a message about an unknown word: the nearest known one, or all of them.

    Args:
        prefix: what is written before the known word, such as `cluster.steps.`.
    """
    known = list(known)
    close = difflib.get_close_matches(str(word), known, n=1)
    if close:
        return f"; did you mean {prefix + close[0]!r}?"
    return f"; known are {', '.join(known)}" if known else "; nothing can be set here"


def _belongs(owner: str, chosen: str, groups: Iterable[type[BaseModel]]) -> str:
    has = sorted(name for group in groups for name in group.model_fields if name != "name")
    shown = ", ".join(has[:_MAX_NAMED]) + (", ..." if len(has) > _MAX_NAMED else "")
    return f"is a setting of {owner}; {chosen} has {shown or 'no settings of its own'}"


def _listed(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _name(group: type[BaseModel]) -> str:
    return str(group.model_fields["name"].default)


def _method(root: type[BaseModel], data: object) -> str:
    default = root.model_fields["method"].default
    return str(data.get("method", default)) if isinstance(data, Mapping) else str(default)


def _nearest(path: tuple[str, ...], known: list[str], tree: list[str]) -> str:
    """Suggest the nearest key: of the same group, else of that name elsewhere, else alike."""
    key, name = ".".join(path), path[-1]
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {'.'.join([*path[:-1], close[0]])!r}?"
    namesakes = [one for one in tree if one.split(".")[-1] == name]
    if namesakes:
        namesakes.sort(key=lambda one: (_is_option(one) != _is_option(key), -_likeness(one, key)))
        return f"; did you mean {' or '.join(map(repr, namesakes[:3]))}?"
    near = difflib.get_close_matches(name, {one.split(".")[-1] for one in tree}, n=1, cutoff=0.8)
    for one in (one for one in tree if near and one.split(".")[-1] == near[0]):
        return f"; did you mean {one!r}?"
    return suggest(name, known)


def _is_option(key: str) -> bool:
    return key.startswith("search.options.")


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(a=other, b=one).ratio()
