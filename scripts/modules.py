"""Write docs/modules.md: every module of the product with the first sentence of its docstring.

python scripts/modules.py            # tests/test_docs.py fails if it has to be run
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "modules.md"
PACKAGES = ("pipelines", "components", "nascore")
_HEAD = """# Modules

Written by `python scripts/modules.py` from the docstrings; [architecture.md](architecture.md) says
how the parts belong together. Imports run one way: `pipelines`, `components`, `nascore`.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    for folder in sorted(_folders(), key=_place):
        name = folder.relative_to(ROOT).as_posix()
        parts.append(
            f"\n## `{name}/`\n\n{sentence(folder / '__init__.py')}\n\n| module | |\n| --- | --- |\n"
        )
        modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
        parts += [f"| `{path.stem}` | {sentence(path)} |\n" for path in modules]
    return "".join(parts)


def _folders() -> Iterator[Path]:
    for package in PACKAGES:
        for init in (ROOT / package).rglob("__init__.py"):
            yield init.parent


def _place(folder: Path) -> tuple[int, str]:
    relative = folder.relative_to(ROOT)
    return PACKAGES.index(relative.parts[0]), relative.as_posix()


def sentence(path: Path) -> str:
    """Return the first paragraph of a module's docstring up to its first full stop, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    return first.replace("|", "\\|")


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
