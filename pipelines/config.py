"""Resolution of preset, file and `--set` to one checked configuration.

Presets are `presets/<method>/<preset>.yaml` in the folder of the method. A file overrides the
preset, `--set` overrides both.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.config.errors import suggest
from components.config.merge import layer_of, merge, read_mapping
from components.config.schema import DEFAULT_METHOD, Config, parse
from nascore.errors import InputError, Problem
from nascore.methods.registry import METHODS
from pipelines.settings import problems_of

DEFAULT_PRESET = "quick"


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
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError.of("CONFIG", path, "does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.of("CONFIG", path, f"cannot be read ({error})") from error
    return read_mapping(text, "CONFIG", str(path))


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


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[Problem]:
    """Return the keys whose values differ between two resolved configurations."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(
                Problem(
                    f"{prefix}{key}",
                    str(after),
                    f"was {before} when this run was started; resume with the old value, or use "
                    "another --out",
                )
            )
    return found
