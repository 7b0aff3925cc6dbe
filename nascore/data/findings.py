"""Findings about a data set: problems and warnings by kind, counted, with examples.

A problem makes a data set unusable or its results untrustworthy; a warning does not.
docs/data.md lists the kinds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nascore.config import DataConfig
from nascore.errors import InputError, Problem

KEY = "data.source"
SOURCE = "source"  # kind of whatever has no kind of its own
NUM_EXAMPLES = 3
_MAX_VALUES = 5
_MAX_MESSAGE = 600


@dataclass(frozen=True)
class Finding(Problem):
    """A problem or a warning of one kind.

    Attributes:
        kind: words with hyphens, such as `duplicate-across-splits`.
        count: files, images, rows or classes that it concerns.
        examples: the first ones, at most three.
    """

    kind: str = SOURCE
    count: int = 1
    examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what `nas check-data --json` prints and `dataset.json` keeps."""
        return {
            "kind": self.kind,
            "message": self.message,
            "count": self.count,
            "examples": list(self.examples),
        }


@dataclass(slots=True)
class Tally:
    """Number of things of one kind, with the first names and a note on each."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def add(self, name: str, note: str = "") -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append(name)
            self.shown.append(f"{name} ({note})" if note else name)

    def finding(self, config: DataConfig, kind: str, message: str) -> Finding:
        """Return the finding about what was counted; see `finding`."""
        return finding(config, kind, message, self.examples, count=self.count, shown=self.shown)


@dataclass(slots=True)
class Findings:
    """Problems and warnings of a data set, collected while it is read.

    Attributes:
        lenient: continue after a problem where possible, to find the others as well.
    """

    lenient: bool = False
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def checkpoint(self) -> None:
        """Raise InputError with all problems so far, unless reading continues in spite of them."""
        if not self.lenient:
            self.refuse()

    def refuse(self) -> None:
        """Raise InputError with all problems so far, if there are any."""
        if self.problems:
            raise InputError(self.problems)


def finding(
    config: DataConfig,
    kind: str,
    message: str,
    examples: Iterable[object] = (),
    *,
    count: int | None = None,
    shown: Iterable[object] | None = None,
) -> Finding:
    """Return a finding about the source.

    Args:
        message: the problem and what to do; `{examples}` is replaced by the first examples and the
            number of others, `{count}` by the number.
        examples: names that it concerns; the first three are enough.
        count: number of all, where fewer examples are given.
        shown: the examples as text of the message, where that is more than their names.
    """
    names = tuple(map(printable, examples))
    count = count if count is not None else max(len(names), 1)
    texts = names if shown is None else tuple(map(printable, shown))
    text = message.replace("{examples}", and_others(texts, count)).replace("{count}", f"{count:,}")
    return Finding(KEY, config.source, text, kind, count, names[:NUM_EXAMPLES])


def refusal(config: DataConfig, kind: str, message: str) -> InputError:
    """Return the error of a source that cannot be read at all, with one finding."""
    return InputError([finding(config, kind, message)])


def join_first(values: Iterable[Any]) -> str:
    """Return the first values as text."""
    shown = [str(value) for value in values]
    return ", ".join(shown[:_MAX_VALUES]) + (", ..." if len(shown) > _MAX_VALUES else "")


def printable(name: object) -> str:
    """Return a name as text; bytes that are not UTF-8 are written out."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def and_others(examples: Sequence[str], count: int) -> str:
    """Return the first three examples as text, and the number of others."""
    shown = ", ".join(examples[:NUM_EXAMPLES])
    rest = count - min(len(examples), NUM_EXAMPLES)
    return f"{shown} and {rest:,} other{'s' if rest > 1 else ''}" if rest > 0 else shown


def merged(problems: Iterable[Problem]) -> list[Finding]:
    """Return one finding for each kind, with counts added and the first examples."""
    by_kind: dict[str, Finding] = {}
    for each in problems:
        if not isinstance(each, Finding):
            message = each.message if each.key == KEY else str(each)
            each = Finding(each.key, each.value, message, SOURCE)
        before = by_kind.get(each.kind)
        if before is None:
            by_kind[each.kind] = each
            continue
        message = before.message
        if each.message not in message and len(message) < _MAX_MESSAGE:
            message = f"{message}; {each.message}"
        by_kind[each.kind] = Finding(
            before.key,
            before.value,
            message,
            each.kind,
            before.count + each.count,
            (before.examples + each.examples)[:NUM_EXAMPLES],
        )
    return list(by_kind.values())
