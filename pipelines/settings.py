"""Settings of a command line, and problems of the options that stand for some of them."""

from collections.abc import Iterable

from nascore.errors import Problem


class Settings(tuple[str, ...]):
    """`key.path=value` settings of a command line.

    Attributes:
        problems: options for single settings that contradict a `--set`.
    """

    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(len(self) or self.problems)


def problems_of(settings: Iterable[str]) -> tuple[Problem, ...]:
    """Return the problems that are known of settings already."""
    return settings.problems if isinstance(settings, Settings) else ()
