"""The command that writes the table: it names each row in which doctor and the run differ."""

from typing import Any

import pytest
from field import agrees, table


def row(doctor: str, run: str) -> dict[str, Any]:
    of = {"area": "S3", "line": "", "trouble": "a trouble", "seconds": None}
    return {**of, "doctor": doctor, "run": run}


@pytest.mark.parametrize(
    ("doctor", "run", "expected"),
    [
        ("problem data: gone", "exit 2: gone", True),
        ("exit 2: the same message", "nas run: exit 2: wrong", True),
        ("warning data: slow", "exit 0, the model is registered", True),
        ("before: ok tracking", "goes on and warns once; exit 1: refused", True),
        ("ok data", "exit 2: gone", False),
        ("warning data: slow", "exit 2: slow", False),
        ("problem data: gone", "exit 0, the model is registered", False),
        ("", "exit 2: gone", None),
        ("ok study", "works", None),
    ],
)
def test_doctor_and_the_run_agree(doctor: str, run: str, expected: bool | None) -> None:
    assert agrees(row(doctor, run)) is expected


def test_a_difference_is_named_below_the_table() -> None:
    page = table([row("ok data", "exit 2: gone"), row("ok data", "exit 0")], [])
    assert "agree in 1 of 2 rows" in page
    assert "- differ: a trouble" in page
