"""Validation of a whole configuration such that every problem is found at once."""

import copy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from components.config.errors import problems_of, reject_booleans
from components.config.model_tree import OF_KEY, locate
from nascore.config import Section
from nascore.errors import Problem

SectionT = TypeVar("SectionT", bound=Section)
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Validated(Generic[SectionT]):
    """The result of a validation.

    Attributes:
        section: the group made of the right values; None when there is none.
        problems: those of all values.
        refused: paths of the values that were left out.
    """

    section: SectionT | None
    problems: list[Problem]
    refused: frozenset[Path]


def validate(model: type[SectionT], data: object) -> Validated[SectionT]:
    """Validate a group of settings.

    pydantic does not compare the values of a section when one of them is wrong. So the wrong ones
    are left out and the rest is validated again, until no further problem is found.
    """
    rest = copy.deepcopy(data)
    problems: list[Problem] = []
    refused: set[Path] = set()
    unknown: set[Path] = set()
    section: SectionT | None = None
    while True:
        try:
            section = model.model_validate(rest)
            break
        except ValidationError as error:
            items = _above_bad_keys([(locate(model, item["loc"]), item) for item in error.errors()])
        paths = refused | {path for path, _ in items}
        for path, item in items:
            if not (
                _follows(item, path, refused)
                or _lacks_elements(item, path, paths)
                or _lacks_unknown(item, path, unknown)
            ):
                problems += problems_of(model, item, data)
        unknown |= {path for path, item in items if item["type"] == "extra_forbidden"}
        refused |= {path for path, item in items if item["type"] != "extra_forbidden"}
        if not any([_take_out(rest, path) for path, _ in items]):
            break
    keys = {problem.key for problem in problems}
    problems += [problem for problem in reject_booleans(model, data) if problem.key not in keys]
    return Validated(section, problems, frozenset(refused))


def _above_bad_keys(items: list[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """Leave out errors of values below a key that is wrong itself."""
    bad = {path for path, item in items if item["loc"][-1:] == (OF_KEY,)}
    return [
        (path, item)
        for path, item in items
        if item["loc"][-1:] == (OF_KEY,) or not any(path[: len(key)] == key for key in bad)
    ]


def _follows(error: Any, path: Path, refused: set[Path]) -> bool:
    """Return whether a comparison fails only because a refused value is missing."""
    missing = [other[-1] for other in refused if other[:-1] == path]
    return error["type"] == "value_error" and any(name in error["msg"] for name in missing)


def _lacks_elements(error: Any, path: Path, refused: set[Path]) -> bool:
    """Return whether a list is too short only because of its refused elements."""
    return error["type"] == "too_short" and any(other[:-1] == path for other in refused)


def _lacks_unknown(error: Any, path: Path, unknown: set[Path]) -> bool:
    """Return whether a group is empty only because its keys, such as `chilren`, are unknown."""
    return error["input"] == {} and any(other[:-1] == path for other in unknown)


def _take_out(data: Any, path: Path) -> bool:
    """Remove a wrong value; a list is removed as a whole, since its places would change."""
    for depth, part in enumerate(path, start=1):
        keys = [key for key in data if str(key) == part]  # a key may be a number
        if not keys:
            return False
        below = data[keys[0]]
        if depth == len(path) or not isinstance(below, dict):
            for key in keys:
                del data[key]
            return True
        data = below
    return False
