"""Old states are removed, and nothing else."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3 import Relay

from components.object_store import client, connection
from components.run_state import bucket_states, cleaning
from components.run_state.cleaning import Cleaned, clean
from components.run_state.folder_states import FolderState
from components.run_state.marker import MARKER, mark
from components.run_state.object_store import ObjectState, StateTaken
from nascore.errors import InputError, ResourceUnavailable

Keys = Callable[[], dict[str, int]]
DAY_S = 86_400


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`later(3)`: three days have gone by."""

    class Clock:
        days = 0.0

        def time(self) -> float:
            return time.time() + self.days * DAY_S

    clock = Clock()
    monkeypatch.setattr(cleaning, "time", clock)
    return lambda days: setattr(clock, "days", days)


@pytest.fixture
def push(root: str, tmp_path: Path) -> Callable[..., ObjectState]:
    """`push("r1", "search")`: a pod that has pushed a state of 1000 bytes."""

    def pushed(run_id: str, step: str = "search") -> ObjectState:
        folder = tmp_path / run_id / step
        state = ObjectState(root, run_id, step, folder)
        state.pull()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint").write_bytes(os.urandom(1000))
        state.push()
        return state

    return pushed


@pytest.fixture
def put(s3: Any, root: str) -> Callable[[str, bytes], None]:
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    return lambda key, data: s3.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=data)


def removed(cleaned: Cleaned) -> list[str]:
    return [state.run_id for state in cleaned.removed]


def skipped(cleaned: Cleaned) -> dict[str, str]:
    return {left.name: left.reason for left in cleaned.skipped}


# --- in an object store -----------------------------------------------------------------------


def test_a_run_is_removed_with_all_its_steps(
    root: str, push: Callable[..., ObjectState], keys: Keys, later: Callable[[float], None]
) -> None:
    push("r1", "search")
    push("r1", "train_final")
    push("r2")
    num_bytes = sum(size for key, size in keys().items() if key.startswith("r1/"))
    young = clean(root, older_than_days=1, dry_run=False)
    assert (removed(young), young.num_kept, young.num_bytes) == ([], 2, 0)
    later(3)
    dry = clean(root, older_than_days=2, dry_run=True)
    assert removed(dry) == ["r1", "r2"]
    assert len(keys()) == 6
    cleaned = clean(root, older_than_days=2, dry_run=False)
    assert removed(cleaned) == ["r1", "r2"]
    assert (cleaned.removed[0].num_files, cleaned.removed[0].num_bytes) == (4, num_bytes)
    assert 2.9 < cleaned.removed[0].age_days < 3.1
    assert cleaned.skipped == cleaned.failed == []
    assert keys() == {}


def test_the_newest_object_of_a_run_counts(
    root: str, push: Callable[..., ObjectState], monkeypatch: pytest.MonkeyPatch
) -> None:
    push("r1", "search")
    push("r1", "train_final")
    real = bucket_states.list_objects

    def aged(uri: str, **settings: Any) -> Any:
        for item in real(uri, **settings):
            old = item.modified - 10 * DAY_S
            yield item._replace(modified=old) if "/search/" in item.key else item

    monkeypatch.setattr(bucket_states, "list_objects", aged)
    assert removed(clean(root, older_than_days=5, dry_run=False)) == []


def test_what_is_not_ours_is_left_and_named(
    root: str,
    push: Callable[..., ObjectState],
    put: Callable[[str, bytes], None],
    keys: Keys,
) -> None:
    push("r1")
    push("r2")
    manifest = {"project": "nas-pipelines", "run_id": "r1", "step": "search", "generation": 1}
    foreign = {
        "data/train/1.png": b"x",
        "champion.json": b"{}",
        "r1/notes.txt": b"x",
        "r1/search/files/readme": b"x",
        "r3/search/files/" + "a" * 64 + ".1.1": b"x",
        "r4/search/manifest.json": b"not JSON",
        "r5/search/manifest.json": json.dumps({**manifest, "project": "other"}).encode(),
        "r6/search/manifest.json": json.dumps(manifest).encode(),  # a copy of another run's
    }
    for key, data in foreign.items():
        put(key, data)
    cleaned = clean(root, older_than_days=0, dry_run=False)
    assert removed(cleaned) == ["r1", "r2"]
    assert keys() == {key: len(data) for key, data in foreign.items()}
    assert {name: reason.partition(";")[0] for name, reason in skipped(cleaned).items()} == {
        "champion.json": "1 of its objects are no part of the state of a run",
        "data": "1 of its objects are no part of the state of a run",
        "r1": "2 of its objects are no part of the state of a run",
        "r3/search": "has no manifest.json",
        "r4/search": "its manifest.json is not of nas-pipelines, or damaged",
        "r5/search": "its manifest.json is not of nas-pipelines, or damaged",
        "r6/search": "its manifest.json is not of nas-pipelines, or damaged",
    }


def test_states_of_other_versions_are_ours(
    root: str, put: Callable[[str, bytes], None], keys: Keys
) -> None:
    manifest = {
        "project": "nas-pipelines",
        "format": 7,
        "version": "9.9",
        "run_id": "r1",
        "step": "search",
        "generation": 1,
    }
    put("r1/search/manifest.json", json.dumps(manifest).encode())
    assert removed(clean(root, older_than_days=0, dry_run=False)) == ["r1"]
    assert keys() == {}


def test_a_pod_whose_state_is_removed_is_reported(
    root: str, push: Callable[..., ObjectState], tmp_path: Path, keys: Keys
) -> None:
    state = push("r1")
    clean(root, older_than_days=0, dry_run=False)
    (tmp_path / "r1" / "search" / "checkpoint").write_bytes(b"new")
    with pytest.raises(StateTaken, match="was removed, by `nas clean-state`"):
        state.push()


def test_a_state_that_is_written_meanwhile_stays(
    root: str, push: Callable[..., ObjectState], tmp_path: Path, relay: Relay, keys: Keys
) -> None:
    state = push("r1")
    seen: list[bytes] = []

    def watch(head: bytes) -> None:
        if head.startswith(b"PUT") and not seen:  # it is about to be taken over
            seen.append(head)
            (tmp_path / "r1" / "search" / "checkpoint").write_bytes(b"new")
            state.push()

    relay.on_request = watch
    cleaned = clean(root, older_than_days=0, dry_run=False)
    assert skipped(cleaned) == {"r1": "is in use: it has changed since it was found old"}
    assert removed(cleaned) == []
    relay.on_request = lambda head: None
    (tmp_path / "r1" / "search" / "checkpoint").write_bytes(b"newer")
    state.push()
    assert len(keys()) == 2


def test_a_removal_that_was_cut_off_is_done_again(
    root: str,
    push: Callable[..., ObjectState],
    relay: Relay,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_ATTEMPTS", 1)
    monkeypatch.setattr(
        bucket_states, "Store", lambda key: client.Store(key=key, retry_timeout_s=0)
    )
    push("r1")

    def watch(head: bytes) -> None:
        if head.startswith(b"DELETE"):
            relay.mode = "errors"

    relay.on_request = watch
    (failed,) = clean(root, older_than_days=0, dry_run=False).failed
    assert failed.name == "r1"
    assert "does not answer as it should" in failed.reason
    assert len(keys()) == 2
    relay.on_request, relay.mode = lambda head: None, "pass"
    with pytest.raises(InputError, match="is being removed by `nas clean-state`"):
        ObjectState(root, "r1", "search", tmp_path / "new").pull()
    assert removed(clean(root, older_than_days=0, dry_run=False)) == ["r1"]
    assert keys() == {}


def test_uploads_that_were_cut_off_go_too(
    root: str, push: Callable[..., ObjectState], s3: Any
) -> None:
    push("r1")
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    s3.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/r1/search/files/{'a' * 64}.1.9")
    clean(root, older_than_days=0, dry_run=False)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket, Prefix=f"{prefix}/r1")


# --- in a folder ------------------------------------------------------------------------------


def make_state(root: Path, run_id: str, *, age_days: float) -> Path:
    folder = root / run_id
    mark(folder, run_id)
    (folder / "search").mkdir()
    (folder / "search" / "checkpoint").write_bytes(bytes(1000))
    os.link(folder / "search" / "checkpoint", folder / "search" / "linked")
    (folder / "latest").symlink_to(root)
    moment = time.time() - age_days * DAY_S
    for path in folder.rglob("*"):
        os.utime(path, (moment, moment), follow_symlinks=False)
    return folder


def test_old_folders_are_removed_and_others_left(tmp_path: Path) -> None:
    old = make_state(tmp_path, "r1", age_days=5)
    young = make_state(tmp_path, "r2", age_days=1)
    used = make_state(tmp_path, "r3", age_days=5)
    (used / "search" / "checkpoint").write_bytes(b"x")
    (tmp_path / "data").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / MARKER).write_text((young / MARKER).read_text())
    (tmp_path / "link").symlink_to(old)
    dry = clean(str(tmp_path), older_than_days=3, dry_run=True)
    assert removed(dry) == ["r1"]
    assert old.exists()
    cleaned = clean(str(tmp_path), older_than_days=3, dry_run=False)
    assert removed(cleaned) == ["r1"]
    assert 1000 < cleaned.num_bytes < 1400  # the hard link takes no room
    assert cleaned.num_kept == 2
    assert skipped(cleaned).keys() == {"data", "file", "copied", "link"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("copied", "data", "file", "link", "r2", "r3")
    ]
    assert young.joinpath("search", "checkpoint").exists()


def test_a_folder_that_is_written_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_state(tmp_path, "r1", age_days=5)
    real = FolderState.confirm

    def writing(self: FolderState) -> Any:
        (folder / "search" / "new").write_text("x")
        return real(self)

    monkeypatch.setattr(FolderState, "confirm", writing)
    cleaned = clean(str(tmp_path), older_than_days=3, dry_run=False)
    assert skipped(cleaned) == {"r1": "is in use: it has changed since it was found old"}
    assert (folder / "search" / "checkpoint").exists()


def test_a_folder_whose_removal_was_cut_off_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_state(tmp_path, "r1", age_days=5)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", refuse)
        (failed,) = clean(str(tmp_path), older_than_days=3, dry_run=False).failed
    assert "cannot be removed" in failed.reason
    assert (folder / MARKER).exists()
    assert removed(clean(str(tmp_path), older_than_days=0, dry_run=False)) == ["r1"]
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_read(tmp_path: Path, s3: Any) -> None:
    with pytest.raises(ResourceUnavailable, match="cannot be read"):
        clean(str(tmp_path / "missing"), older_than_days=3, dry_run=False)
    with pytest.raises(ResourceUnavailable, match="there is no such bucket"):
        clean("s3://nowhere/a", older_than_days=3, dry_run=False)
