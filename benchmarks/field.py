"""Table of troubles from the field: what `nas doctor` and the run say in each.

    python benchmarks/field.py

Runs the tests in tests/field, slow ones included, on real servers, and writes
docs/results/field.md of what they saw. A failed test is named below the table, and so is each row
in which `nas doctor` refuses what the run does, or allows what the run refuses.
"""

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "results" / "field.md"


def main() -> None:
    """Run the tests and write the table."""
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "tests/field",
                "-q",
                "-rsf",
            ],
            cwd=ROOT,
            env={**os.environ, "NAS_FIELD_ROWS": str(rows)},
            stdout=subprocess.PIPE,
            text=True,
        )
        print(ended.stdout)
        found = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    ends = ("FAILED", "SKIPPED", "ERROR")
    unseen = [line for line in ended.stdout.splitlines() if line.startswith(ends)]
    TABLE.write_text(table(found, unseen), encoding="utf-8")
    sys.exit(ended.returncode or int(any(agrees(row) is False for row in found)))


def agrees(row: dict[str, Any]) -> bool | None:
    """Return whether `nas doctor` reports a problem exactly where the run exits with 2.

    None where one of them was not asked.
    """
    status = re.search(r"exit (\d)", row["run"])
    if not row["doctor"] or status is None:
        return None
    refuses = row["doctor"].startswith(("problem", "exit 2"))
    return refuses == (status[1] == "2")


def table(rows: list[dict[str, Any]], unseen: list[str]) -> str:
    """Return the page.

    Args:
        rows: as recorded by the fixture `field`.
        unseen: lines of pytest about tests that failed or were skipped.
    """
    lines = [
        "# Troubles from the field",
        "",
        f"`python benchmarks/field.py`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors "
        f"({platform.machine()}). Each row was seen by a test in tests/field, on real servers. "
        "Seconds are from the start of the run to its message; nothing is trained before it.",
    ]
    for area in dict.fromkeys(row["area"] for row in rows):
        lines += ["", f"## {area}", "", "| | trouble | `nas doctor` | the run | s |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        of_area = [row for row in rows if row["area"] == area]
        for row in sorted(of_area, key=lambda row: (_number(row["line"]), row["trouble"])):
            cells = (row[key] for key in ("line", "trouble", "doctor", "run"))
            seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
            lines.append("| " + " | ".join([*map(_cell, cells), seconds]) + " |")
    asked = [row for row in rows if agrees(row) is not None]
    differ = [row for row in asked if not agrees(row)]
    lines += ["", "## Agreement", ""]
    lines += [
        f"`nas doctor` and the run agree in {len(asked) - len(differ)} of {len(asked)} rows: a "
        "problem where the run exits with 2 before any training, and else ok or a warning."
    ]
    lines += [f"- differ: {_cell(row['trouble'])}" for row in differ]
    if unseen:
        lines += ["", "## Not seen", "", *(f"- `{line}`" for line in unseen)]
    return "\n".join(lines) + "\n"


def _number(line: str) -> float:
    digits = "".join(letter for letter in line if letter.isdigit())
    return float(digits) if digits else float("inf")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    main()
