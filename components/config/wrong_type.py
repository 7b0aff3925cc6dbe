"""Messages about values of a wrong type: the accepted form, with an example to copy."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

_UNITS: dict[str, tuple[str, str, dict[str, int]]] = {
    "_ms": ("milliseconds", "60", {"ms": 1, "s": 1000}),
    "_s": ("seconds", "60", {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}),
    "_mb": ("megabytes", "4096", {"mb": 1, "mib": 1, "gb": 1024, "gib": 1024, "g": 1024}),
    "_days": ("days", "30", {"d": 1, "day": 1, "days": 1, "w": 7, "week": 7, "weeks": 7}),
}
"""By the end of a setting's name: its unit, an example, and how many of it other units are."""
_KINDS_OF_YES = ("string_", "int_", "float_", "less_than", "greater_than")
"""pydantic's kinds of errors about true and false where a text or a number belongs."""
_MULTIPLES = {"%": "0.01", "k": "1000", "M": "1000000"}
_TEXTS = {"source": "npz:images.npz", "uri": "http://HOST:PORT", "experiment": "flowers"}
"""Examples of text settings that are given in a wrong type most often."""


def wrong_type(name: str, value: Any, error: Mapping[str, Any], field: FieldInfo | None) -> str:
    """Return what is wrong with a value, and a form that is accepted.

    Args:
        name: last part of its key; the place in a list if the value is an element of one.
        value: the value in the configuration.
        error: one of `ValidationError.errors()`.
        field: the setting; None for an element of a list or a mapping.
    """
    kind = error["type"]
    if isinstance(value, bool) and kind.startswith(_KINDS_OF_YES):
        return yes_or_no(name, field, is_text=kind == "string_type")
    if kind == "string_type":
        return _text(name, value)
    if kind in ("tuple_type", "list_type"):
        return f"must be a list; write {name}: [{_element(value)}]"
    if kind.startswith("int_"):
        return _number(name, value, "whole number", field)
    if kind in ("float_type", "float_parsing"):
        return _number(name, value, "number", field)
    if kind in ("bool_type", "bool_parsing"):
        return f"must be true or false; write {name}: true"
    if kind == "path_type":
        return f"must be a path; write {name}: data"
    if kind == "string_pattern_mismatch":  # never shown: a regular expression explains nothing
        return "does not have the accepted form; nas config METHOD describes it"
    message = str(error["msg"])
    message = message[0].lower() + message[1:]
    return message.replace("input should be", "must be").replace("tuple should", "list should")


def yes_or_no(name: str, field: FieldInfo | None, *, is_text: bool) -> str:
    """Return the message about yes or no where another value is meant."""
    if is_text:
        return (
            "YAML reads yes, no, on, off, true and false as yes or no; write a text in quotes: "
            f'{name}: "on"'
        )
    none = ", or null for none" if _accepts(field, None) else ""
    return f"must not be yes or no; write a value such as {name}: {_example_of(field)}{none}"


def _text(name: str, value: Any) -> str:
    if value is None:
        return f"must be text, not empty; write {name}: {_example(name)}"
    if isinstance(value, list | tuple):
        first = value[0] if value and isinstance(value[0], str) else _example(name)
        return f"must be one text, not a list; write {name}: {first}"
    if isinstance(value, Mapping):
        return f"must be text, not a group of keys; write {name}: {_example(name)}"
    return f'must be text; write it in quotes: {name}: "{value}"'


def _example(name: str) -> str:
    return _TEXTS.get(name, "TEXT")


def _element(value: Any) -> str:
    """Return the value as the element of the list that was meant."""
    if isinstance(value, Mapping):
        return "{KEY: VALUE}"
    parts = str(value).replace(",", " ").split() if isinstance(value, str) else [str(value)]
    return ", ".join(parts) if value is not None and parts else "VALUE"


def _number(name: str, value: Any, kind: str, field: FieldInfo | None) -> str:
    if isinstance(value, list | tuple):
        example = _example_of(field, *map(str, value[:1]))
        return f"must be one {kind}, not a list; write {name}: {example}"
    suffix = next((suffix for suffix in _UNITS if name.endswith(suffix)), None)
    if suffix is None:
        return (
            f"must be a {kind}; write {name}: {_example_of(field, _converted(value, _MULTIPLES))}"
        )
    unit, usual, factors = _UNITS[suffix]
    example = _example_of(field, _converted(value, factors), usual)
    return f"must be a {kind} of {unit}; write {name}: {example}"


def _example_of(field: FieldInfo | None, *first: str) -> str:
    """Return a number that a setting accepts: one of the first, its default, or one in its range.

    Args:
        field: the setting; None for an element of a list or a mapping.
        first: examples that are tried before others; empty ones are not.
    """
    default = None if field is None else field.default
    usual = []
    if isinstance(default, int | float) and not isinstance(default, bool) and abs(default) < 1e6:
        usual = [f"{default:g}"]
    tried = [*first, *usual, "4", "0.5", *_in_range(field)]
    return next((one for one in tried if one and _accepts(field, json.loads(one))), "NUMBER")


def _in_range(field: FieldInfo | None) -> list[str]:
    """Return numbers at, near and between the bounds of a setting."""
    found = re.findall(r"(?:[gl][et]=|Literal\[)(-?\d[\d.e+-]*)", repr(field))
    bounds = [Decimal(one) for one in found]
    middle = sum(bounds, Decimal()) / len(bounds) if bounds else Decimal()
    return [f"{one:f}" for one in (*bounds, middle, *(bound + 1 for bound in bounds))]


def _accepts(field: FieldInfo | None, value: Any) -> bool:
    if field is None:
        return value is not None
    annotation: Any = field.annotation
    for constraint in field.metadata:
        annotation = Annotated[annotation, constraint]
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _converted(value: Any, factors: Mapping[str, int | str]) -> str:
    """Return a number with another unit, such as 2h, in the unit of the setting; else nothing."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z%]+)", str(value).strip())
    number, unit = match.groups() if match else ("", "")
    factor = factors.get(unit) or factors.get(unit.lower())
    if not number or factor is None:
        return ""
    amount = Decimal(number) * Decimal(factor)
    return f"{amount.normalize():f}"
