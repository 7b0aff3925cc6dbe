"""States that are damaged, of another program, without rights, or on a full disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from state_files import Keys, Pod, files_in, fill, said

from components.run_state.object_store import ObjectState
from nascore.errors import ResourceUnavailable

MANIFEST = "r1/search/manifest.json"


# --- damaged, or of another program -----------------------------------------------------------


def changed(**values: Any) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({**json.loads(data), **values}).encode()


def without(name: str) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(
        {key: value for key, value in json.loads(data).items() if key != name}
    ).encode()


def with_file(**values: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        manifest = json.loads(data)
        manifest["files"][0].update(values)
        return json.dumps(manifest).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read as the manifest of a state"),
        (lambda data: b"", "cannot be read as the manifest of a state"),
        (lambda data: b"\xff\xfe", "cannot be read as the manifest of a state"),
        (lambda data: b"[1]", "cannot be read as the manifest of a state"),
        (lambda data: b'"text"', "cannot be read as the manifest of a state"),
        (without("files"), "cannot be read as the manifest of a state"),
        (changed(files=[1]), "cannot be read as the manifest of a state"),
        (changed(files=None), "cannot be read as the manifest of a state"),
        (changed(generation="1"), "cannot be read as the manifest of a state"),
        (changed(folders=["../x"]), "cannot be read as the manifest of a state"),
        (with_file(path="../../etc/passwd"), "cannot be read as the manifest of a state"),
        (with_file(path="/etc/passwd"), "cannot be read as the manifest of a state"),
        (with_file(object="../../r2/search/files/x"), "cannot be read as the manifest"),
        (with_file(sha256="0"), "cannot be read as the manifest of a state"),
        (with_file(mode=0o4777), "cannot be read as the manifest of a state"),
        (changed(project="other"), "was written by another program (other)"),
        (changed(format=2), "has format 2, this version reads 1"),
        (changed(version="0.0.1"), "was written by version 0.0.1 of nas-pipelines"),
        (changed(run_id="r2"), "is the state of run r2, not of r1"),
        (changed(step="promote"), "is the state of step promote, not of search"),
        (changed(removing=True), "is being removed by `nas clean-state`"),
        (changed(config="f" * 64), "belongs to another configuration (ffffffffffff, this one"),
    ],
)
def test_a_manifest_that_cannot_be_used(
    pod: Pod,
    keys: Keys,
    stored: Callable[[str], bytes],
    store: Callable[[str, bytes | None], None],
    change: Callable[[bytes], bytes],
    message: str,
) -> None:
    state, folder = pod("a", config="c" * 64)
    state.pull()
    fill(folder, a=b"1")
    state.push()
    bad = change(stored(MANIFEST))
    store(MANIFEST, bad)
    before = keys()
    other, there = pod("b", config="c" * 64)
    found = said(other.pull)
    assert found.startswith("cluster.state = s3://state/")
    assert message in found
    assert "`nas submit`" in found or "use another place" in found
    assert stored(MANIFEST) == bad
    assert keys() == before
    assert not there.exists()


def test_a_configuration_that_is_not_known_fits_all(pod: Pod) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    state.push()
    assert pod("b", config="c" * 64)[0].pull()
    assert pod("c")[0].pull()
    assert "belongs to another configuration" in said(pod("d", config="d" * 64)[0].pull)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing (checkpoint of the state)"),
        (b"half", "has another content than was saved (checkpoint of the state)"),
        (b"", "has another content than was saved"),
        (b"other content", "has another content than was saved"),
    ],
)
def test_an_object_that_is_gone_or_was_changed(
    pod: Pod,
    keys: Keys,
    store: Callable[[str, bytes | None], None],
    content: bytes | None,
    message: str,
    root: str,
    tmp_path: Path,
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, checkpoint=b"whole content", other=b"x" * 100)
    state.push()
    damaged = next(key for key, size in keys().items() if size == 13)
    store(damaged, content)
    before = keys()
    other, there = pod("b")
    fill(there, own=b"x")
    found = said(other.pull)
    assert found.startswith(f"cluster.state = {root}/{damaged}: ")
    assert message in found
    assert "start a new run with `nas submit`" in found
    assert "Nothing was removed" in found
    assert files_in(there) == {"own": b"x"}
    assert keys().keys() == before.keys()


def test_without_rights(pod: Pod, monkeypatch: pytest.MonkeyPatch, keys: Keys) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    state.push()
    before = keys()
    writer, there = pod("b")
    writer.pull()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    fill(there, a=b"2")
    assert "s3:PutObject" in said(writer.push, ResourceUnavailable)
    assert "grant s3:GetObject" in said(pod("c")[0].pull, ResourceUnavailable)
    assert keys().keys() == before.keys()


def test_a_bucket_that_does_not_exist(tmp_path: Path, s3: Any) -> None:
    state = ObjectState("s3://nowhere/a", "r1", "search", tmp_path / "search")
    assert "there is no such bucket" in said(state.pull, ResourceUnavailable)


def test_a_disk_that_is_full_is_reported(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")

    def refuse(**settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    assert "No space left on device); free space" in said(state.push, ResourceUnavailable)


def test_a_folder_that_cannot_be_written(pod: Pod, tmp_path: Path) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    state.push()
    other, there = pod("b")
    there.parent.mkdir()
    there.parent.joinpath(".search.pull").write_text("in the way")
    assert "cannot be written" in said(other.pull, ResourceUnavailable)
