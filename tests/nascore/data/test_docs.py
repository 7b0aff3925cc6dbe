"""docs/data.md: its tables are those of the tests, and every kind of finding is explained."""

import ast
from pathlib import Path

import pytest
from data_kinds import BEGIN, END, functions_in, read_kinds, tables

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "data.md"


def test_every_row_has_its_test() -> None:
    known = functions_in(ROOT / "tests" / "nascore" / "data")
    named = {kind.shown_by for kinds in read_kinds().values() for kind in kinds}
    assert len(named) > 50
    assert named - known == set()


def test_the_tables_of_the_page(pytestconfig: pytest.Config) -> None:
    """`--renew-golden` writes them."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n\n{chr(10).join(tables())}{END}{after}"
    if pytestconfig.getoption("--renew-golden"):
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted


def kinds_in(path: Path) -> set[str]:
    """Words with hyphens, and single ones, that are given as the kind of a finding."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        place = {"finding": 1, "problem": 2, "told": 0, "_finding": 0, "Finding": 3}.get(name)
        if place is not None and len(node.args) > place:
            kind = node.args[place]
            if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                found.add(kind.value)
    return found


def test_every_kind_of_finding_is_explained() -> None:
    kinds = set().union(*(kinds_in(path) for path in (ROOT / "nascore" / "data").glob("*.py")))
    assert {"duplicate-across-splits", "skipped-files", "unreadable"} - kinds <= {
        "duplicate-across-splits"  # its name stands in a table of the code
    }
    text = PAGE.read_text()
    assert {kind for kind in kinds if f"`{kind}`" not in text} == set()
