"""The configuration of a run of a compiled pipeline: the compiled one and the given parameters."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from components.config.consistency import ADDRESSES
from components.config.contradictions import Given, contradictions, effective
from components.config.merge import layer_of, merge, read_mapping
from components.config.parameters import PARAMETERS, SETTINGS, split_settings
from components.config.schema import Config, parse
from components.config.secret_values import open_secrets
from nascore.errors import InputError, Problem
from nascore.methods.registry import METHODS

_PRESET = "quick"
_COMPILED = "cluster"
_BUDGET = ("search", "budget")
_OF_A_METHOD = ("method", "search.options")


def resolve(compiled: str, values: Mapping[str, str]) -> Config:
    """Return the configuration of a run.

    Args:
        compiled: the configuration with which the pipeline was compiled, as JSON.
        values: parameters of the run by name; an empty one changes nothing.

    Raises:
        InputError: listing every problem, each with the name of its parameter.
    """
    given = _given(values)
    layer, malformed = layer_of(effective(given, SETTINGS), SETTINGS)
    problems = [*contradictions(given, SETTINGS), *malformed]
    problems += [
        Problem(
            one.key,
            one.setting.partition("=")[2],
            "is compiled into the pods; compile or submit the pipeline with this setting",
        )
        for one in given
        if one.key == _COMPILED or one.key.startswith(f"{_COMPILED}.")
    ]
    # `nas run` moves these addresses into the environment; Kubeflow stores and shows a parameter.
    problems += [one for one in open_secrets(layer) if one.key in ADDRESSES]
    with naming_parameters(values):
        return parse(_layered(read_mapping(compiled, "config"), layer), also=problems)


def unchecked(compiled: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration of a run without checks, as for one that was refused; see `resolve`.

    Raises:
        InputError: the compiled configuration is no mapping.
    """
    layer, _ = layer_of(effective(_given(values), SETTINGS), SETTINGS)
    return _layered(read_mapping(compiled, "config"), layer)


def _layered(base: dict[str, Any], layer: dict[str, Any]) -> dict[str, Any]:
    method = layer.get("method")
    if isinstance(method, str) and method in METHODS and method != base.get("method"):
        base = _with_method(parse(base).model_dump(mode="json"), method)
    return merge(base, layer)


@contextlib.contextmanager
def naming_parameters(values: Mapping[str, str]) -> Iterator[None]:
    """Raise the input errors of the block with the names and values of the parameters at fault."""
    try:
        yield
    except InputError as error:
        given = _given(values)
        raise type(error)([_named(problem, given) for problem in error.problems]) from error


def _given(values: Mapping[str, str]) -> list[Given]:
    texts = {name: text.strip() for name, text in values.items()}
    given = [
        Given(one.name, texts[one.name], one.setting(texts[one.name]))
        for one in PARAMETERS
        if texts.get(one.name)
    ]
    return given + [Given(SETTINGS, one, one) for one in split_settings(texts.get(SETTINGS, ""))]


def _named(problem: Problem, given: list[Given]) -> Problem:
    """Return a problem under the name of the parameter that set its key."""
    for one in given:
        is_its_key = problem.key == one.key or problem.key.startswith(f"{one.key}.")
        if one.option == SETTINGS and is_its_key:
            value = f"{problem.value} (in pipeline parameter {SETTINGS})"
            return Problem(problem.key, value.strip(), problem.message)
        is_malformed = problem.key == one.option and problem.value == one.text
        if is_malformed or (one.option != SETTINGS and is_its_key):
            return Problem(one.option, f"{one.text} (pipeline parameter)", problem.message)
    return problem


# --- another method ---------------------------------------------------------------------------


def _with_method(base: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return a compiled configuration for another method.

    It is the quick preset of that method, with what the compiled configuration changes in the quick
    preset of its own method. The search space stays if both methods search in it.
    """
    before = parse(_preset(base["method"])).model_dump(mode="json")
    preset = _preset(method)
    changed = _changes(before, base, ())
    space = base["search"]["space"]
    search = changed.get("search", {})
    search.pop("space", None)
    if preset["search"]["space"]["name"] == space["name"] and space != before["search"]["space"]:
        search["space"] = space
    return {**merge(preset, changed), "method": method}


def _preset(method: str) -> dict[str, Any]:
    path = METHODS[method].presets / method / f"{_PRESET}.yaml"
    return read_mapping(path.read_text(encoding="utf-8"), "preset", str(path))


def _changes(
    before: Mapping[str, Any], after: Mapping[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    """Return the values of `after` that differ; a budget as a whole, and no options of a method."""
    changed: dict[str, Any] = {}
    for key, value in after.items():
        here, old = (*path, key), before.get(key)
        if ".".join(here) in _OF_A_METHOD or value == old:
            continue
        if isinstance(value, dict) and isinstance(old, dict) and here != _BUDGET:
            changed[key] = _changes(old, value, here)
        else:
            changed[key] = value
    return changed
