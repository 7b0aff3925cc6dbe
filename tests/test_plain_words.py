"""`scripts/plain_words.py`: a planted word is found wherever a reader would meet it."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "plain_words.py"


def search(folder: Path) -> int:
    """Run the script on a folder; return its exit status."""
    spec = importlib.util.spec_from_file_location("plain_words", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return int(module.main([str(folder)]))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("docstring.py", '"""A module."""\n\n\ndef f():\n    """What is told."""\n', ":5: 'told'"),
        ("help.py", 'option("--x", help="Judge it.")\n', ":1: 'Judge'"),
        ("message.py", 'raise ValueError("the server is away")\n', ":1: 'is away'"),
        ("name.py", "is_told = 1\n", ":1: 'told'"),
        ("class.py", "class HandedOn: ...\n", ":1: 'Handed On'"),
        ("comment.py", "x = 1  # it is held\n# against the other\n", ":1: 'held # against'"),
        ("page.md", "# Title\n\nIt goes\non with the run.\n", ":3: 'goes on with'"),
        ("template.html.j2", "<p>Beside {{ x }}</p>\n", ":1: 'Beside'"),
        ("preset.yaml", "# nobody\nmethod: nases\n", ":1: 'nobody'"),
    ],
)
def test_a_planted_word_is_found(
    tmp_path: Path, name: str, text: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert search(tmp_path) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{name}{found}; write " in line


@pytest.mark.parametrize(
    "text",
    [
        "besides, an example of untold judgement, handover\n",
        "| x | `test_layouts.py::test_links_are_told` |\n",
        "the hands of a clock are on it\n",
    ],
)
def test_other_words_are_not(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.md").write_text(text)
    assert search(tmp_path) == 0
    assert capsys.readouterr().out == ""
