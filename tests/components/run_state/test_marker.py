"""The file that says that a folder is the state of a run."""

import json
from pathlib import Path

import pytest

from components.run_state.marker import MARKER, mark, marked_run
from nascore.errors import InputError, ResourceUnavailable


def test_a_folder_is_marked_once_and_known_again(tmp_path: Path) -> None:
    folder = tmp_path / "r1"
    mark(folder, "r1")
    before = (folder / MARKER).read_text()
    mark(folder, "r1")
    assert marked_run(folder) == "r1"
    assert [path.read_text() for path in folder.iterdir()] == [before]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run_id": "r2"}, "is the state of run r2, not of r1"),
        ({"version": "0.0.1"}, "was written by version 0.0.1 of nas-pipelines"),
        ({"format": 2}, "has format 2"),
        ({"project": "other"}, "was written by another program"),
        (None, "cannot be read"),
    ],
)
def test_a_marker_of_something_else(
    tmp_path: Path, change: dict[str, object] | None, message: str
) -> None:
    mark(tmp_path, "r1")
    path = tmp_path / MARKER
    values = json.loads(path.read_text())
    path.write_text("{" if change is None else json.dumps({**values, **change}))
    before = path.read_text()
    with pytest.raises(InputError, match=message) as caught:
        mark(tmp_path, "r1")
    assert str(caught.value).startswith(f"cluster.state = {path}: ")
    assert path.read_text() == before


def test_no_marker_and_no_folder(tmp_path: Path) -> None:
    assert marked_run(tmp_path) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceUnavailable, match="cannot be read or written"):
        mark(tmp_path / "file" / "r1", "r1")
