"""Files of a state in tests of the object store, and what a failed call reports."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from s3 import SECRET_KEY

from components.run_state.object_store import ObjectState
from nascore.errors import InputError

Pod = Callable[..., tuple[ObjectState, Path]]
Keys = Callable[[], dict[str, int]]


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def fill(folder: Path, **files: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f".{name}").write_bytes(content)
        (folder / f".{name}").replace(folder / name)


def settle(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 10,) * 2)


def said(function: Callable[[], object], kind: type[InputError] = InputError) -> str:
    with pytest.raises(InputError) as caught:
        function()
    assert type(caught.value) is kind
    assert SECRET_KEY not in str(caught.value)
    return str(caught.value)
