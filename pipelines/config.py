"""From preset, file and `--set` to one checked configuration.

Presets are `presets/<method>/<preset>.yaml`. A file overrides the preset, `--set` overrides both.
"""

import difflib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from components.config import Config, apply_overrides, merge, parse
from nascore.errors import InputError, Problem
from nascore.methods import METHODS

PRESETS = Path(__file__).parent / "presets"
DEFAULT_PRESET = "quick"


def resolve(file: Path | None, preset: str | None, settings: Iterable[str]) -> Config:
    """The configuration of a run.

    Raises:
        InputError: listing every problem of the file, the settings and the values.
    """
    own: dict[str, Any] = {} if file is None else read_yaml(file)
    above = merge(own, apply_overrides({}, settings))
    method = above.get("method", Config.model_fields["method"].default)
    # An unknown method has no preset: the check of the whole tells it, with all else that is wrong.
    known = method if method in METHODS else Config.model_fields["method"].default
    below = read_yaml(preset_path(known, preset or DEFAULT_PRESET))
    return parse({**merge(below, above), "method": method})


def preset_path(method: str, preset: str) -> Path:
    """Raises InputError when there is no such preset."""
    path = PRESETS / method / f"{preset}.yaml"
    if path.is_file():
        return path
    known = sorted(p.stem for p in (PRESETS / method).glob("*.yaml"))
    close = difflib.get_close_matches(preset, known, n=1)
    raise InputError.of(
        "--preset",
        preset,
        f"{method} has {', '.join(known)}" + (f"; did you mean {close[0]!r}?" if close else ""),
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file; a key that stands there twice is an error.

    Raises:
        InputError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # a SafeLoader
    except FileNotFoundError as error:
        raise InputError.of("CONFIG", path, "there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.of("CONFIG", path, f"cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError.of("CONFIG", path, f"is not valid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError.of("CONFIG", path, "must hold keys and values, such as `seed: 1`")
    return data


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a repeated key instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[Problem]:
    """Keys whose values differ between two resolved configurations."""
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
                    f"was {before} when this output was begun; resume with the old value, or use "
                    "another --out",
                )
            )
    return found
