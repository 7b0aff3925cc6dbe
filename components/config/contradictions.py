"""Settings of one start that contradict each other: options, parameters and `key.path=value`."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from nascore.errors import Problem

SET = "--set"


@dataclass(frozen=True, slots=True)
class Given:
    """Text of a setting on the command line or in a pipeline parameter.

    Attributes:
        option: `--set`, or the option of a single setting, such as `--seed`.
        text: the value of the option.
        setting: the same as `key.path=value`.
    """

    option: str
    text: str
    setting: str

    @property
    def key(self) -> str:
        return self.setting.partition("=")[0].strip()

    def is_below(self, other: "Given") -> bool:
        """Return whether this sets a part of the group that the other sets as a whole."""
        return self.key.startswith(f"{other.key}.")


def contradictions(given: Iterable[Given], several: str = SET) -> tuple[Problem, ...]:
    """Return a problem for each two settings of which one would silently replace the other.

    A later setting of the option `several` replaces an earlier one of it, and is no problem.
    """
    problems = [
        Problem(one.option, one.text, f"contradicts {other.option} {other.text}; give one of them")
        for one, other in combinations(given, 2)
        if _contradict(one, other, several)
    ]
    return tuple(dict.fromkeys(problems))


def effective(given: Iterable[Given], several: str = SET) -> list[str]:
    """Return the settings, without those that set a part of what an option sets as a whole.

    Their contradiction is one problem already.
    """
    every = list(given)
    options = [one for one in every if one.option != several]
    return [one.setting for one in every if not any(one.is_below(option) for option in options)]


def _contradict(one: Given, other: Given, several: str) -> bool:
    """Return whether a later setting replaces an earlier one, or changes a part of an option."""
    if one.key == other.key:
        if one.option == other.option == several:
            return False  # scripts append a --set to those that they have
        value, later_value = (given.setting.partition("=")[2] for given in (one, other))
        return value.strip("\"' ") != later_value.strip("\"' ")
    # A setting below a group that --set gave before is an addition to that group.
    return one.is_below(other) or (one.option != several and other.is_below(one))
