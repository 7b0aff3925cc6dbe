"""Fixture `field`: rows of docs/results/field.md, recorded by the tests in this folder.

Each test here puts the project into a state of the world that people report from the field, and
checks what `nas doctor` and the run say. It records what it saw, after its assertions:

    def test_expired_token(field, ...):
        ...
        field(
            area="MLflow",
            line="49",
            trouble="a proxy asks for a log-in on every path",
            doctor="problem tracking: refuses the account (401)",
            run="exit 2 before any training: the message of doctor",
            seconds=4.2,
        )

`python benchmarks/field.py` runs the folder, slow tests included, and writes the table.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

AREAS = ("MLflow", "S3", "database", "machine", "configuration", "champion")
ROWS = "NAS_FIELD_ROWS"
LONGEST = 400
"""Characters of a cell; a longer text is no table any more."""


@pytest.fixture
def field() -> Callable[..., None]:
    """Return a function that records a row; without NAS_FIELD_ROWS it only checks the row."""

    def record(
        *,
        area: str,
        trouble: str,
        run: str,
        doctor: str = "",
        line: str = "",
        seconds: float | None = None,
    ) -> None:
        """Record what happens in one state of the world.

        Args:
            area: one of `AREAS`.
            trouble: state of the world, in a few words.
            run: outcome of the run: exit status, and the message as it was seen.
            doctor: status and message of `nas doctor` as seen; empty where it has no say.
            line: number of the trouble in the list of field reports, if it is there.
            seconds: from the start of the run to its message; absent where nothing fails.
        """
        assert area in AREAS, area
        row = {
            "area": area,
            "line": line,
            "trouble": trouble,
            "doctor": doctor,
            "run": run,
            "seconds": seconds,
        }
        long = {key for key, value in row.items() if len(str(value)) > LONGEST}
        assert not long, f"shorten {long}"
        place = os.environ.get(ROWS)
        if place:
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    return record


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
