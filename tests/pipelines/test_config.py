"""Files of a configuration as editors, shells and other programs leave them."""

from pathlib import Path

import pytest

from nascore.errors import InputError
from pipelines.config import read_yaml


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("CONFIG", str(path))
    return problem.message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_utf_8_is_read_with_and_without_a_mark(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(f"seed: 1{end}tracking: {{experiment: Prüfung}}{end}".encode(encoding))
    assert read_yaml(path) == {"seed": 1, "tracking": {"experiment": "Prüfung"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: 1\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8 (in PowerShell: "),
        (b"\xfe\xff" + "seed: 1\n".encode("utf-16-be"), "is UTF-16 text; save it as UTF-8"),
        ("seed: 1\n".encode("utf-16-le"), "is UTF-16 text; save it as UTF-8"),
        ("seed: 1\n".encode("utf-16-be"), "is UTF-16 text; save it as UTF-8"),
        ("seed: 1\n".encode("utf-32"), "is UTF-32 text; save it as UTF-8"),
        ("a: 1\nb: Prüfung\n".encode("latin-1"), "is not UTF-8 text (byte 0xfc in line 2); save"),
        (b"PK\x03\x04\x14\x00" + b"x" * 100, "is a binary file, not YAML"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    assert message in refused(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path) == "is a folder; name a YAML file in it"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "c.yaml") == "does not exist"
