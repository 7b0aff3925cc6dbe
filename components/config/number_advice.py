"""Advice about a number in a setting: the refused value in the accepted form, or an example."""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

_SECONDS = {"s": "1", "m": "60", "min": "60", "h": "3600", "d": "86400"}
_MEGABYTES = {"k": "0.0009765625", "m": "1", "g": "1024", "t": "1048576"}
_MEGABYTES |= {
    unit + end: factor for unit, factor in _MEGABYTES.items() for end in ("b", "i", "ib")
}
_UNITS: dict[str, tuple[str, str, dict[str, str]]] = {
    "_ms": ("milliseconds", "60", {"ms": "1", "s": "1000"}),
    "_s": ("seconds", "60", _SECONDS),
    "seconds": ("seconds", "3600", _SECONDS),
    "gpu_hours": ("hours", "2", {"h": "1", "hours": "1", "d": "24"}),
    "_mb": ("megabytes", "4096", _MEGABYTES),
    "image_size": ("pixels", "32", {"px": "1", "pixels": "1"}),
    "_days": (
        "days",
        "30",
        {"d": "1", "day": "1", "days": "1", "w": "7", "week": "7", "weeks": "7"},
    ),
}
"""By the end of a setting's name: its unit, an example, and how many of it other units are."""
_MULTIPLES = {"%": "0.01", "k": "1000", "M": "1000000"}
_LARGEST = Decimal(2**63 - 1)


def number_advice(name: str, value: Any, kind: str, field: FieldInfo | None) -> str:
    """Return which number a setting takes, and what to write.

    Args:
        name: last part of its key; the place in a list if the value is an element of one.
        value: the value in the configuration.
        kind: `number` or `whole number`.
        field: the setting; None for an element of a list or a mapping.
    """
    unit, usual, factors = _unit_of(name)
    is_list = isinstance(value, list | tuple)
    what = f"one {kind}, not a list" if is_list else f"a {kind}" + (f" of {unit}" if unit else "")
    meant = _meant(value, factors, is_whole=kind.startswith("whole"))
    near = next((one for one in meant if accepts(field, json.loads(one))), "")
    if near:
        return f"must be {what}; write {name}: {near}"
    too_large = "is too large; " if _exceeds(value) else ""
    return f"{too_large}must be {what}; write a value such as {name}: {example_of(field, usual)}"


def example_of(field: FieldInfo | None, *first: str) -> str:
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
    return next((one for one in tried if one and accepts(field, json.loads(one))), "NUMBER")


def accepts(field: FieldInfo | None, value: Any) -> bool:
    """Return whether a setting takes a value; without a setting, whether there is one."""
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


def _in_range(field: FieldInfo | None) -> list[str]:
    """Return numbers at, near and between the bounds of a setting."""
    found = re.findall(r"(?:[gl][et]=|Literal\[)(-?\d[\d.e+-]*)", repr(field))
    bounds = [Decimal(one) for one in found]
    middle = sum(bounds, Decimal()) / len(bounds) if bounds else Decimal()
    return [f"{one:f}" for one in (*bounds, middle, *(bound + 1 for bound in bounds))]


def _unit_of(name: str) -> tuple[str, str, Mapping[str, str]]:
    """Return the unit of a setting, an example, and other units; of one without, multiples."""
    suffix = next((suffix for suffix in _UNITS if name.endswith(suffix)), None)
    return ("", "", {**_MULTIPLES, name: "1"}) if suffix is None else _UNITS[suffix]


def _meant(value: Any, factors: Mapping[str, str], *, is_whole: bool) -> Iterator[str]:
    """Yield the number that a value probably stands for, such as 7200 for 2h."""
    if isinstance(value, list | tuple):
        yield from (f"{one}" for one in value[:1] if _is_number(one) and not value[1:])
        value = "x".join(map(str, value))  # [32, 32] is a height and a width
    text = str(value).strip()
    sides = re.split(r"\s*[x×*]\s*", text)
    if sides[1:] and sides[0].isdecimal() and len(set(sides)) == 1:
        yield sides[0]
    number = _decimal(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text) if is_whole else text)
    if number is None:
        number = _decimal(text.replace(",", "."))
    if number is None:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z%]+)", text)
        amount, unit = match.groups() if match else ("", "")
        factor = factors.get(unit) or factors.get(unit.lower())
        number = Decimal(amount) * Decimal(factor) if factor else None
    if number is not None and abs(number) <= _LARGEST:
        whole = number.to_integral_value(ROUND_HALF_UP)
        yield f"{(whole if is_whole else number).normalize():f}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exceeds(value: Any) -> bool:
    number = _decimal(str(value))
    return number is not None and abs(number) > _LARGEST


def _decimal(text: str) -> Decimal | None:
    """Return a finite number; None for another text."""
    is_number = re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,4})?", text)
    return Decimal(text) if is_number else None
