"""Messages about values of a wrong type: the accepted form, with an example to copy."""

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from components.config.number_advice import accepts, example_of, number_advice

_KINDS_OF_YES = ("string_", "int_", "float_", "less_than", "greater_than")
"""pydantic's kinds of errors about true and false where a text or a number belongs."""
_TEXTS = {
    "source": "npz:images.npz",
    "uri": "http://HOST:PORT",
    "experiment": "flowers",
    "export_to": "s3://BUCKET/PREFIX",
}
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
        return number_advice(name, value, "whole number", field)
    if kind in ("float_type", "float_parsing"):
        return number_advice(name, value, "number", field)
    if kind in ("bool_type", "bool_parsing"):
        return f"must be true or false; write {name}: true"
    if kind == "less_than" and error["ctx"]["lt"] == 1 and _is_percentage(value, field):
        return f"must be less than 1; write {name}: {value / 100:g} for {value:g} %"
    if kind == "string_too_long":
        longest = error["ctx"]["max_length"]
        return f"must have at most {longest} characters; write {name}: {_example(name)}"
    if kind == "string_too_short":
        return f"must be text, not empty; write {name}: {_example(name)}"
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
    none = ", or null for none" if accepts(field, None) else ""
    return f"must not be yes or no; write a value such as {name}: {example_of(field)}{none}"


def _is_percentage(value: Any, field: FieldInfo | None) -> bool:
    """Return whether a number is a percentage, rather than a fraction that is too large."""
    return isinstance(value, int | float) and value >= 5 and accepts(field, value / 100)


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
