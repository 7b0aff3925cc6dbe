"""Markdown with texts of users, such as names of classes."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; all texts may come from users."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell(text) for text in line)} |" for line in lines]


def cell(text: str) -> str:
    """Return text of the user, such as the name of a class, without effect on the Markdown."""
    escaped = "".join(
        f"\\{character}" if character in r"\|`*_[]<>" else character for character in text
    )
    return " ".join(escaped.split())
