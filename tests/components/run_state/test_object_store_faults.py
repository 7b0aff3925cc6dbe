"""Killed pushers, two pods of one step, an unreachable store, and states that are damaged."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3 import SECRET_KEY, Relay

from components.object_store import client
from components.run_state.object_store import ObjectState, StateTaken
from nascore.errors import InputError, ResourceUnavailable

Pod = Callable[..., tuple[ObjectState, Path]]
Keys = Callable[[], dict[str, int]]
MANIFEST = "r1/search/manifest.json"


@pytest.fixture
def stored(s3: Any, root: str) -> Callable[[str], bytes]:
    """Content of an object by what follows the root."""
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    return lambda key: s3.get_object(Bucket=bucket, Key=f"{prefix}/{key}")["Body"].read()


@pytest.fixture
def store(s3: Any, root: str) -> Callable[[str, bytes | None], None]:
    """Write an object by what follows the root, or remove it."""
    bucket, _, prefix = root.removeprefix("s3://").partition("/")

    def write(key: str, content: bytes | None) -> None:
        if content is None:
            s3.delete_object(Bucket=bucket, Key=f"{prefix}/{key}")
        else:
            s3.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content)

    return write


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs is given up after seconds."""
    monkeypatch.setattr(client, "_READ_S", 0.5)
    monkeypatch.setattr(client, "_ATTEMPTS", 2)


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


# --- killed -----------------------------------------------------------------------------------

_NUM_KILLS = 12
_LARGE = 9 * 2**20  # in two parts


def _push_for_ever(state: ObjectState, folder: Path, counter: Any) -> None:
    """Versions of a state, each of three files that hold its number; the number when pushed."""
    state.pull()
    number = counter.value
    while True:
        number += 1
        small, large = b"%09d" % number, b"%09d" % number * (_LARGE // 9)
        fill(folder, a=small, large=large if number % 4 == 0 else small * 2, outputs=small * 3)
        settle(folder)
        state.push()
        counter.value = number


def test_a_pusher_may_be_killed_at_any_moment(pod: Pod, keys: Keys, relay: Relay) -> None:
    """Up to 20 ms after one of its first 15 requests."""
    context = multiprocessing.get_context("fork")
    counter = context.Value("q", 0)
    rng = random.Random(0)
    versions, num_torn = [], 0
    for number in range(_NUM_KILLS):
        state, folder = pod(f"pod{number}")
        process = context.Process(target=_push_for_ever, args=(state, folder, counter))
        left = rng.randint(3, 17)  # two are those of its pull
        reached = threading.Semaphore(0)
        relay.on_request = lambda head, reached=reached: reached.release()
        process.start()
        for _ in range(left):
            assert reached.acquire(timeout=30)
        time.sleep(rng.uniform(0, 0.02))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        relay.on_request = lambda head: None
        num_torn += len(keys()) > 4
        other, there = pod(f"reader{number}")
        if not other.pull():
            assert counter.value == 0
            continue
        found = {name: {int(content[:9])} for name, content in files_in(there).items()}
        versions.append(found["a"].pop())
        assert found == {"a": set(), "large": {versions[-1]}, "outputs": {versions[-1]}}
        assert versions[-1] >= counter.value  # the last that was acknowledged, or a newer one
        counter.value = versions[-1]
    assert versions == sorted(versions)
    assert len(set(versions)) > _NUM_KILLS / 3
    assert num_torn > _NUM_KILLS / 4  # killed between the first object and the last removal
    # What they left is removed by the next push.
    state, folder = pod("last")
    state.pull()
    fill(folder, a=b"end")
    state.push()
    named = {file["object"] for file in json.loads(_read_manifest(state))["files"]}
    assert {key.rpartition("/")[2] for key in keys()} == named | {"manifest.json"}


def _read_manifest(state: ObjectState) -> bytes:
    from components.object_store.client import Store
    from components.object_store.objects import fetch

    found = fetch(f"{state.uri}/manifest.json", store=Store())
    assert found is not None
    return found[0]


def test_uploads_that_were_cut_off_are_aborted(pod: Pod, s3: Any, root: str) -> None:
    state, folder = pod("a")
    state.pull()
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    files = f"{prefix}/r1/search/files/"
    for name in (f"{'a' * 64}.1.7", f"{'b' * 64}.9.1", "foreign"):
        s3.create_multipart_upload(Bucket=bucket, Key=files + name)
    fill(folder, a=b"1")
    state.push()
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix=files)
    left = [upload["Key"].removeprefix(files) for upload in page["Uploads"]]
    assert sorted(left) == [f"{'b' * 64}.9.1", "foreign"]  # a later pod's, and no one's of ours


# --- two pods ---------------------------------------------------------------------------------


def test_the_older_of_two_pods_stops_and_removes_nothing(
    pod: Pod, keys: Keys, relay: Relay
) -> None:
    old, old_folder = pod("old")
    old.pull()
    fill(old_folder, a=b"1", b=b"1b")
    old.push()
    new, new_folder = pod("new")
    new.pull()
    fill(new_folder, a=b"2", c=b"2c")
    new.push()
    before = keys()

    fill(old_folder, a=b"3", d=b"3d")
    assert "was taken over by pod" in said(old.push, StateTaken)
    requests: list[bytes] = []
    relay.on_request = requests.append
    assert "was taken over by pod" in said(old.push, StateTaken)
    assert "was taken over by pod" in said(lambda: old.push(done=True), StateTaken)
    assert requests == []
    assert keys().items() >= before.items()

    fill(new_folder, a=b"4")
    new.push()
    assert len(keys()) == 4 + 2  # what the old pod sent is left to the next one that sweeps
    third, there = pod("third")
    third.pull()
    assert files_in(there) == {"a": b"4", "b": b"1b", "c": b"2c"}
    third_folder = there
    fill(third_folder, a=b"5")
    third.push()
    assert len(keys()) == 4


def test_a_slow_removal_of_the_older_pod_hits_nothing_of_the_newer_one(
    pod: Pod, relay: Relay
) -> None:
    """While the old pod removes an object, the new one writes the same content again."""
    old, old_folder = pod("old")
    old.pull()
    fill(old_folder, a=b"first")
    old.push()
    new, new_folder = pod("new")
    done: list[bytes] = []

    def watch(head: bytes) -> None:
        if head.startswith(b"DELETE") and not done:
            done.append(head)
            new.pull()
            fill(new_folder, a=b"first")
            new.push()

    relay.on_request = watch
    fill(old_folder, a=b"second")
    old.push()
    assert done
    third, there = pod("third")
    third.pull()
    assert files_in(there) == {"a": b"first"}


def test_many_pods_at_once_leave_one_whole_state(pod: Pod) -> None:
    """All pull, then all push states of their own: one counts, and the others stop."""
    first, folder = pod("first")
    first.pull()
    fill(folder, a=b"0", b=b"0")
    first.push()
    lost = []
    all_pulled = threading.Barrier(6)

    def work(number: int) -> None:
        state, own = pod(f"pod{number}")
        for turn in range(3):
            try:
                if turn == 0:
                    state.pull()
                    all_pulled.wait(30)
                content = b"%d.%d" % (number, turn)
                fill(own, a=content, b=content)
                state.push()
            except StateTaken:
                lost.append(number)
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last, there = pod("last")
    last.pull()
    found = files_in(there)
    assert found["a"] == found["b"] != b"0"
    assert int(found["a"].split(b".")[0]) not in lost
    assert len(lost) == 5


def test_a_state_that_was_removed_is_not_written_again(
    pod: Pod, store: Callable[[str, bytes | None], None]
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    state.push()
    store(MANIFEST, None)
    fill(folder, a=b"2")
    assert "was removed, by `nas clean-state` or by hand" in said(state.push, StateTaken)
    assert "was removed" in said(state.push, StateTaken)


# --- the store is unreachable -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["away", "errors", "hang"])
def test_a_push_fails_without_the_store_and_the_next_one_makes_up_for_it(
    pod: Pod, relay: Relay, quick: None, mode: str
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    state.push()
    fill(folder, a=b"2", b=b"2")
    relay.mode = mode
    start = time.monotonic()
    assert "does not answer as it should" in said(state.push, ResourceUnavailable)
    assert time.monotonic() - start < 15
    relay.mode = "pass"
    state.push()
    other, there = pod("b")
    other.pull()
    assert files_in(there) == {"a": b"2", "b": b"2"}


def test_what_was_sent_before_the_store_went_away_is_not_sent_again(
    pod: Pod, relay: Relay, quick: None
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1", b=b"2")
    settle(folder)

    def watch(head: bytes) -> None:
        if b"manifest.json" in head:
            relay.mode = "errors"

    relay.on_request = watch
    said(state.push, ResourceUnavailable)
    relay.on_request, relay.mode = lambda head: None, "pass"
    pushed = state.push()
    assert pushed.files == 0
    assert pushed.bytes > 0  # the manifest
    other, there = pod("b")
    other.pull()
    assert files_in(there) == {"a": b"1", "b": b"2"}


def test_a_manifest_that_was_written_without_an_answer_is_ours(
    pod: Pod, relay: Relay, quick: None, keys: Keys
) -> None:
    """The server replaces it, then it is unreachable; the next push finds a new ETag."""
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    state.push()
    fill(folder, a=b"2")
    seen: list[bytes] = []

    def watch(head: bytes) -> None:
        if head.startswith(b"PUT") and b"manifest.json" in head:
            seen.append(head)
        if seen:
            relay.mode = "cut answer" if len(seen) == 1 and head is seen[0] else "away"

    relay.on_request = watch
    said(state.push, ResourceUnavailable)
    relay.on_request, relay.mode = lambda head: None, "pass"
    fill(folder, a=b"3")
    state.push()
    other, there = pod("b")
    other.pull()
    assert files_in(there) == {"a": b"3"}
    assert len(keys()) == 2


def test_a_lost_answer_costs_nothing(pod: Pod, relay: Relay) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    cut: list[bytes] = []

    def watch(head: bytes) -> None:
        if head.startswith(b"PUT") and b"manifest.json" in head and not cut:
            cut.append(head)
            relay.mode = "cut answer"

    relay.on_request = watch
    state.push()
    assert cut
    fill(folder, a=b"2")
    state.push()


def test_a_removal_that_fails_is_made_up_for(
    pod: Pod, relay: Relay, quick: None, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    state.push()

    def watch(head: bytes) -> None:
        relay.mode = "errors" if head.startswith(b"DELETE") else "pass"

    relay.on_request = watch
    fill(folder, a=b"2")
    state.push()
    assert "objects that are not needed any more are left" in caplog.text
    assert len(keys()) == 3
    relay.on_request, relay.mode = lambda head: None, "pass"
    state.push()
    assert len(keys()) == 2


@pytest.mark.parametrize("mode", ["away", "errors", "hang"])
def test_a_pull_waits_for_the_store_but_not_for_ever(
    pod: Pod, relay: Relay, quick: None, mode: str
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1")
    state.push()
    other, there = pod("b", retry_timeout_s=2.0)
    relay.mode = mode
    start = time.monotonic()
    assert "does not answer as it should for 2 s" in said(other.pull, ResourceUnavailable)
    assert 1.5 < time.monotonic() - start < 15
    assert not there.exists()
    patient, there = pod("c", retry_timeout_s=60.0)
    threading.Timer(1.5, setattr, (relay, "mode", "pass")).start()
    assert patient.pull() is True
    assert files_in(there) == {"a": b"1"}


@pytest.mark.parametrize("mode", ["corrupt", "cut"])
def test_what_is_damaged_on_the_way_is_not_taken(
    pod: Pod, relay: Relay, quick: None, mode: str
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1" * 1000)
    state.push()

    def watch(head: bytes) -> None:
        relay.mode = mode if head.startswith(b"GET") and b"/files/" in head else "pass"

    relay.on_request = watch
    other, there = pod("b", retry_timeout_s=2.0)
    found = said(other.pull, InputError if mode == "corrupt" else ResourceUnavailable)
    assert ("has another content than was saved" in found) == (mode == "corrupt")
    assert not there.exists()
    relay.on_request, relay.mode = lambda head: None, "pass"
    assert other.pull() is True


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
