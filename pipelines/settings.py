"""Settings of a command line, and problems of the options that stand for some of them."""

from collections.abc import Iterable, Sequence

from components.config.contradictions import SET, Given, contradictions
from nascore.errors import Problem


class Settings(tuple[str, ...]):
    """`key.path=value` settings of a command line.

    Attributes:
        problems: options that contradict each other.
    """

    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(len(self) or self.problems)


def problems_of(settings: Iterable[str]) -> tuple[Problem, ...]:
    """Return the problems that are known of settings already."""
    if isinstance(settings, Settings):
        return settings.problems
    if isinstance(settings, Sequence):
        return contradictions([Given(SET, text, text) for text in settings])
    return ()
