"""Resolution of preset, file and `--set` to one checked configuration.

Presets are `presets/<method>/<preset>.yaml` in the folder of the method. A file overrides the
preset, `--set` overrides both.
"""

import codecs
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.config.merge import layer_of, merge, read_mapping
from components.config.schema import DEFAULT_METHOD, Config, parse
from components.config.unknown_keys import suggest
from nascore.errors import InputError, Problem
from nascore.methods.registry import METHODS
from pipelines.settings import problems_of

DEFAULT_PRESET = "quick"
_SAVE = "save it as UTF-8 (in PowerShell: Set-Content -Encoding utf8)"
_MARKS = {  # The mark of UTF-16 is the beginning of that of UTF-32, so the longer ones come first.
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def resolve(file: Path | None, preset: str | None, settings: Iterable[str]) -> Config:
    """Return the configuration of a run.

    Args:
        file: YAML, or None.
        preset: name; None for the default.
        settings: `key.path=value`.

    Raises:
        InputError: listing every problem of the file, the settings and the values.
    """
    own, problems = ({}, []) if file is None else _read(file)
    layer, malformed = layer_of(settings)
    malformed += problems_of(settings)
    above = merge(own, layer)
    method = above.get("method", DEFAULT_METHOD)
    # An unknown method has no presets; `parse` reports it with all other problems.
    known = method if isinstance(method, str) and method in METHODS else DEFAULT_METHOD
    below, unknown = _read_preset(known, preset or DEFAULT_PRESET)
    data = {**merge(below, above), "method": method}
    return parse(data, also=[*problems, *malformed, *unknown])


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises:
        InputError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError.of("CONFIG", path, "does not exist") from error
    except IsADirectoryError as error:
        raise InputError.of("CONFIG", path, "is a folder; name a YAML file in it") from error
    except OSError as error:
        raise InputError.of("CONFIG", path, f"cannot be read ({error.strerror})") from error
    try:
        text = _decode(content)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = f"is not UTF-8 text (byte 0x{content[error.start]:02x} in line {line}); {_SAVE}"
        raise InputError.of("CONFIG", path, message) from error
    except ValueError as error:
        raise InputError.of("CONFIG", path, str(error)) from error
    return read_mapping(text, "CONFIG", str(path))


def _decode(content: bytes) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        UnicodeDecodeError: it is in another encoding.
        ValueError: it is UTF-16 or UTF-32, or no text.
    """
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            raise ValueError(f"is {encoding} text; {_SAVE}")
    if b"\0" in content:  # UTF-16 without a mark: every other byte of ASCII letters is zero
        zeros = abs(content[0::2].count(0) - content[1::2].count(0))
        is_wide = len(content) % 2 == 0 and zeros > len(content) // 4
        raise ValueError(f"is UTF-16 text; {_SAVE}" if is_wide else "is a binary file, not YAML")
    return content.decode("utf-8-sig")


def _read(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    try:
        return read_yaml(path), []
    except InputError as error:
        return {}, list(error.problems)


def _read_preset(method: str, preset: str) -> tuple[dict[str, Any], list[Problem]]:
    path = METHODS[method].presets / method / f"{preset}.yaml"
    if path.is_file():
        return read_yaml(path), []
    known = sorted(file.stem for file in path.parent.glob("*.yaml"))
    message = f"{method} has no such preset{suggest(preset, known)}"
    default = read_yaml(path.with_name(f"{DEFAULT_PRESET}.yaml"))
    return default, [Problem("--preset", preset, message)]


def given_keys(file: Path | None, settings: Iterable[str]) -> frozenset[str]:
    """Return the dotted keys of a file and of `key.path=value` settings, without the preset's."""
    own = {} if file is None else read_yaml(file)
    return frozenset(_leaves(merge(own, layer_of(settings)[0])))


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values differ between two resolved configurations, and both values."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found[f"{prefix}{key}"] = before, after
    return found
