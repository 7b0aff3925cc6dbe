"""What people have, what becomes of it, and the test that shows it: the tables of docs/data.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BEGIN, END = "<!-- written by the tests: begin -->", "<!-- written by the tests: end -->"
_FILE = Path(__file__).with_suffix(".txt")


class Kind(NamedTuple):
    """A kind of input.

    Attributes:
        shown_by: FILE::FUNCTION below tests/nascore.
    """

    what: str
    becomes: str
    shown_by: str


def read_kinds() -> dict[str, list[Kind]]:
    """The kinds by the title of their table."""
    kinds: dict[str, list[Kind]] = {}
    title = ""
    for line in _FILE.read_text(encoding="utf-8").splitlines()[1:]:
        if line.startswith("## "):
            title = line[3:]
            kinds[title] = []
        elif line:
            kinds[title].append(Kind(*line.split(" | ")))
    return kinds


def tables() -> Iterator[str]:
    """Lines of the tables, in Markdown."""
    for title, kinds in read_kinds().items():
        yield f"### {title}"
        yield ""
        yield "| what | becomes | test |"
        yield "| --- | --- | --- |"
        for kind in kinds:
            yield f"| {kind.what} | {kind.becomes} | `{kind.shown_by}` |"
        yield ""


def functions_in(root: Path) -> set[str]:
    """FILE::FUNCTION of all tests of data."""
    found = set()
    for path in root.glob("test_*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("def test_"):
                found.add(f"{path.name}::{line[4:].partition('(')[0]}")
    return found
