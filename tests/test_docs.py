"""Documentation that is generated from the code, and names of code and tests in pages."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from nascore.genotype import Genotype

ROOT = Path(__file__).parent.parent


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("modules", ROOT / "scripts" / "modules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_modules_is_that_of_the_tree() -> None:
    modules = script()
    shown = modules.PAGE.read_text(encoding="utf-8")
    assert shown == modules.page(), "run python scripts/modules.py"


def test_every_module_says_what_it_is() -> None:
    modules = script()
    for package in modules.PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            assert modules.sentence(path), f"{path.relative_to(ROOT)} has no docstring"


def test_the_readme_searches_with_an_own_evaluation() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    seen: list[float] = []

    def evaluate(space: object, genotype: Genotype) -> float:
        """Prefer the operation of the highest number."""
        seen.append(sum(genotype.tokens) / (4 * len(genotype.tokens)))
        return seen[-1]

    exec(code, {"evaluate": evaluate})
    assert len(seen) == 50
    assert max(seen[25:]) > max(seen[:10])


def test_the_readme_is_for_a_person_in_a_hurry() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_links_between_pages_lead_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "manifests").rglob("*.md"),
    ]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_the_page_of_tests_names_files_that_are_there() -> None:
    named = re.findall(r"`([\w/]+/test_\w+\.py)", (ROOT / "docs" / "testing.md").read_text())
    assert len(named) > 20
    assert [
        name for name in named if not (ROOT / "tests" / name.removeprefix("tests/")).exists()
    ] == []


def test_pages_name_tests_that_are_there() -> None:
    """A name may be cut short by an ellipsis."""
    text = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    named = re.findall(r"::(test_\w+)(…?)", text)
    found = re.findall(
        r"def (test_\w+)", "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    )
    assert len(named) > 100
    assert [
        name
        for name, is_cut in named
        if not any(one.startswith(name) if is_cut else one == name for one in found)
    ] == []


def test_pages_name_code_that_is_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    missing = []
    for page in pages:
        for path in re.findall(
            r"`((?:nascore|components|pipelines)/[\w/{},]+\.py)`", page.read_text()
        ):
            before, _, rest = path.partition("{")
            inside, _, after = rest.partition("}")
            for name in inside.split(","):
                found = before + name + after
                if not any((ROOT / top / found).exists() for top in ("", "tests")):
                    missing.append(f"{page.name}: {found}")
    assert missing == []
