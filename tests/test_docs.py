"""Documentation that is made of the code is made anew when the code changes."""

import importlib.util
from pathlib import Path
from types import ModuleType

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
