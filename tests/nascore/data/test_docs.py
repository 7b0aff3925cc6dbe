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
    """Return the kinds of findings of a module, as texts or constants of the module."""
    tree = ast.parse(path.read_text())
    constants = {
        ast.unparse(node.targets[0]): node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        place = {"finding": 1, "refusal": 1, "_finding": 0, "Finding": 3}.get(name)
        if place is not None and len(node.args) > place:
            kind = constants.get(ast.unparse(node.args[place]), node.args[place])
            if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                found.add(kind.value)
    return found


def test_every_kind_of_finding_is_explained() -> None:
    kinds = set().union(*(kinds_in(path) for path in (ROOT / "nascore" / "data").glob("*.py")))
    assert {"archive", "arrays", "layout", "parquet", "skipped-files", "unreadable"} <= kinds
    text = PAGE.read_text()
    assert {kind for kind in kinds if f"`{kind}`" not in text} == set()
