"""The folder of copies of an S3 source: where it is, and what is said when it cannot be written."""

from pathlib import Path

import pytest

from components.config.schema import parse
from components.steps.s3_source import open_remote
from nascore.errors import ResourceUnavailable

CONFIG = parse({"data": {"source": "npz:s3://data/x.npz"}})


def test_a_folder_in_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NAS_CACHE_DIR", "~/copies")
    assert open_remote(CONFIG) is not None
    assert (tmp_path / "home" / "copies").is_dir()
    assert not (tmp_path / "~").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path / "file" / "copies"))
    with pytest.raises(ResourceUnavailable) as caught:
        open_remote(CONFIG)
    (problem,) = caught.value.problems
    assert problem.key == "NAS_CACHE_DIR"
    assert "cannot be written (Not a directory); name another folder" in problem.message


def test_a_source_without_s3_needs_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE_DIR", "/proc/none")
    assert open_remote(parse({})) is None
