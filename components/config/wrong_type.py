"""Messages about values of a wrong type: the accepted form, with an example to copy."""

from collections.abc import Mapping
from typing import Any

_UNITS = {"_s": "seconds", "_ms": "milliseconds", "_mb": "megabytes", "_days": "days"}
"""Units of numbers by the end of their names."""
_FACTORS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_TEXTS = {"source": "npz:images.npz", "uri": "http://HOST:PORT", "experiment": "flowers"}
"""Examples of text settings that are given in a wrong type most often."""


def wrong_type(name: str, value: Any, error: Mapping[str, Any], default: Any) -> str:
    """Return what is wrong with a value, and a form that is accepted.

    Args:
        name: last part of its key; the place in a list if the value is an element of one.
        value: as it was given.
        error: one of `ValidationError.errors()`.
        default: of the setting, which is the example if it is a number; None without one.
    """
    kind = error["type"]
    if isinstance(value, bool) and kind.startswith(("string_", "int_", "float_")):
        return yes_or_no(name, is_text=kind == "string_type")
    if kind == "string_type":
        return _text(name, value)
    if kind in ("tuple_type", "list_type"):
        return f"must be a list; write {name}: [{_element(value)}]"
    if kind.startswith("int_"):
        return _number(name, value, "whole number", _default(default, "4"))
    if kind in ("float_type", "float_parsing"):
        return _number(name, value, "number", _percent(value) or _default(default, "0.5"))
    if kind in ("bool_type", "bool_parsing"):
        return f"must be true or false; write {name}: true"
    if kind == "path_type":
        return f"must be a path; write {name}: data"
    if kind == "string_pattern_mismatch":  # never shown: a regular expression explains nothing
        return "does not have the accepted form; nas config METHOD describes it"
    message = str(error["msg"])
    message = message[0].lower() + message[1:]
    return message.replace("input should be", "must be").replace("tuple should", "list should")


def yes_or_no(name: str, *, is_text: bool) -> str:
    """Return the message about yes or no where another value is meant."""
    if is_text:
        return (
            "YAML reads yes, no, on, off, true and false as yes or no; write a text in quotes: "
            f'{name}: "on"'
        )
    return f"must not be yes or no; write a value such as {name}: 4, or null for none"


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


def _number(name: str, value: Any, kind: str, example: str) -> str:
    if isinstance(value, list | tuple):
        first = value[0] if value and isinstance(value[0], int | float) else example
        return f"must be one {kind}, not a list; write {name}: {first}"
    suffix = next((end for end in sorted(_UNITS, key=len, reverse=True) if name.endswith(end)), "")
    if not suffix:
        return f"must be a {kind}; write {name}: {example}"
    return f"must be a {kind} of {_UNITS[suffix]}; write {name}: {_in_unit(suffix, value)}"


def _default(default: Any, example: str) -> str:
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    return f"{default:g}" if is_number and abs(default) < 1e6 else example


def _percent(value: Any) -> str:
    """Return a text such as 95% as a fraction; empty for other values."""
    number = str(value).strip().removesuffix("%")
    is_percent = number != str(value).strip() and number.replace(".", "", 1).isdecimal()
    return f"{float(number) / 100:g}" if is_percent else ""


def _in_unit(suffix: str, value: Any) -> str:
    """Return a time such as 2h in seconds; an example for other values."""
    text = str(value).replace(" ", "").lower()
    number, unit = text.rstrip("abcdefghijklmnopqrstuvwxyz"), ""
    unit = text[len(number) :]
    if suffix == "_s" and number.isdigit() and unit in _FACTORS:
        return str(int(number) * _FACTORS[unit])
    return "30" if suffix == "_days" else "4096" if suffix == "_mb" else "60"
