"""The state of a step in a real object store: pulled, pushed, and cheap where nothing changed."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3 import Relay
from state_files import files_in, settle

from components.run_state import contents
from components.run_state.object_store import ObjectState
from components.run_state.pulling import copy_part, saved_steps
from components.run_state.schedule import PushSchedule

Pod = Callable[..., tuple[ObjectState, Path]]
Keys = Callable[[], dict[str, int]]
MANIFEST = "r1/search/manifest.json"


def fill(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_a_state_reaches_another_pod(pod: Pod, tmp_path: Path) -> None:
    state, folder = pod("a")
    assert state.pull() is False
    fill(folder, checkpoint=b"c", outputs__done=b"{}", spool__events__1=b"e")
    (folder / "outputs" / "weights").mkdir()
    (folder / "checkpoint").chmod(0o600)
    pushed = state.push()
    assert pushed.files == 3
    assert pushed.bytes > 4
    assert 0 < pushed.seconds < 5

    other, there = pod("b")
    assert other.pull() is True
    assert files_in(there) == files_in(folder)
    assert (there / "outputs" / "weights").is_dir()
    assert (there / "checkpoint").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.rglob(".*")) == []


def test_what_a_pod_had_before_is_replaced(pod: Pod) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, checkpoint=b"c")
    state.push()
    other, there = pod("b")
    fill(there, old=b"x", checkpoint=b"old")
    assert other.pull() is True
    assert files_in(there) == {"checkpoint": b"c"}


def test_without_a_state_the_folder_stays(pod: Pod) -> None:
    state, folder = pod("a")
    fill(folder, own=b"x")
    assert state.pull() is False
    assert files_in(folder) == {"own": b"x"}


def test_a_folder_that_is_gone_does_not_empty_the_state(pod: Pod, keys: Keys) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, checkpoint=b"c")
    state.push()
    before = keys()
    (folder / "checkpoint").unlink()
    folder.rmdir()
    assert state.push().bytes == 0
    assert keys() == before


def test_what_has_not_changed_is_neither_sent_nor_read(
    pod: Pod, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, big=bytes(2**20), small=b"s")
    settle(folder)
    state.push()
    requests: list[bytes] = []
    read: list[Path] = []
    relay.on_request = requests.append
    real = contents.sha256_of
    monkeypatch.setattr(contents, "sha256_of", lambda path: (read.append(path), real(path))[1])
    pushed = state.push()
    assert (pushed.bytes, pushed.files, requests, read) == (0, 0, [], [])

    fill(folder, small=b"t")
    pushed = state.push()
    assert pushed.files == 1
    assert pushed.bytes < 2000
    assert len(read) <= 2  # read again after it was sent, as it was just written


def test_nothing_is_read_again_after_a_pull(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, big=bytes(2**20))
    state.push()
    other, _ = pod("b")
    other.pull()
    read: list[Path] = []
    monkeypatch.setattr(contents, "sha256_of", read.append)
    assert other.push().bytes == 0
    assert read == []


def test_the_same_content_is_sent_once(pod: Pod, keys: Keys) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"same", b=b"same", outputs__c=b"same")
    assert state.push().files == 1
    (folder / "a").rename(folder / "d")
    assert state.push().files == 0
    assert len(keys()) == 2


def test_the_manifest_comes_after_what_it_names_and_before_removals(pod: Pod, relay: Relay) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, a=b"1", b=b"1b")
    state.push()
    seen: list[str] = []

    def watch(head: bytes) -> None:
        method, path = head.split(b" ")[:2]
        if method in (b"PUT", b"DELETE"):
            kind = "manifest" if path.endswith(b"manifest.json") else "file"
            seen.append(f"{method.decode()} {kind}")

    relay.on_request = watch
    fill(folder, a=b"2", b=b"2b")
    state.push()
    assert seen == ["PUT file"] * 2 + ["PUT manifest"] + ["DELETE file"] * 2


def test_of_a_step_that_has_succeeded_the_checkpoints_go(pod: Pod, keys: Keys) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, big__ckpt=bytes(2**20), outputs__model=b"m", result=b"")
    (folder / "result.json").write_text("{}")
    state.push()
    assert sum(keys().values()) > 2**20
    state.push(done=True)
    assert sum(keys().values()) < 2000
    other, there = pod("b")
    assert other.pull() is True
    assert files_in(there) == {"outputs/model": b"m", "result.json": b"{}"}


def test_a_database_is_pushed_while_it_is_written(pod: Pod, root: str, tmp_path: Path) -> None:
    """Two tables always have the same number of rows."""
    state, folder = pod("a")
    state.pull()
    (folder / "study").mkdir(parents=True)
    database = folder / "study" / "study.db"
    with sqlite3.connect(database) as made:
        made.execute("PRAGMA journal_mode=wal")
        made.executescript("CREATE TABLE a (n); CREATE TABLE b (n)")
    made.close()
    over = threading.Event()

    def write() -> None:
        connection = sqlite3.connect(database, timeout=30)
        while not over.wait(0.002):
            with connection:
                connection.execute("INSERT INTO a VALUES (zeroblob(1000))")
                connection.execute("INSERT INTO b VALUES (zeroblob(1000))")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    counts = []
    for number in range(5):
        time.sleep(0.05)
        state.push()
        there = tmp_path / f"copy{number}"
        copy_part(root, "r1", "search", "study", there)
        assert [path.name for path in there.iterdir()] == ["study.db"]
        copy = sqlite3.connect(there / "study.db")
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        a, b = (copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in "ab")
        copy.close()
        assert a == b
        counts.append(a)
    over.set()
    writer.join()
    assert counts == sorted(set(counts))  # more each time


def test_a_file_that_is_written_in_place_while_it_is_sent(pod: Pod, relay: Relay) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, table=b"1" * 100)
    settle(folder)
    num_puts = []

    def watch(head: bytes) -> None:
        if head.startswith(b"PUT") and b"/files/" in head:
            num_puts.append(head)
            if len(num_puts) == 1:
                with open(folder / "table", "r+b") as file:
                    file.write(b"2" * 100)

    relay.on_request = watch
    state.push()
    assert len(num_puts) == 2
    other, there = pod("b")
    other.pull()
    assert files_in(there) == {"table": b"2" * 100}


@pytest.mark.parametrize("in_step", [True, False])
def test_two_writes_within_one_time_stamp(pod: Pod, in_step: bool) -> None:
    """A file is changed in place, with the same size and the same time."""
    state, folder = pod("a")
    state.pull()
    fill(folder, table=b"1")
    moment = time.time() - (0 if in_step else 10)
    os.utime(folder / "table", (moment, moment))
    state.push()
    fill(folder, table=b"2")
    os.utime(folder / "table", (moment, moment))
    assert state.push().files == int(in_step)  # an old time stamp is believed


def test_what_a_large_state_costs(
    pod: Pod, keys: Keys, record_property: Callable[[str, object], None]
) -> None:
    """64 MB: all of it once, nothing when it is unchanged, and the time of the next push."""
    state, folder = pod("a")
    state.pull()
    fill(folder, big=np.random.default_rng(0).bytes(64 * 2**20))
    settle(folder)
    cpu = time.process_time()
    pushed = state.push()
    cpu = time.process_time() - cpu
    assert 64 * 2**20 < pushed.bytes < 64 * 2**20 + 2000
    schedule = PushSchedule()
    schedule.pushed(pushed.seconds)
    assert schedule.seconds_left() > 99 * pushed.seconds
    again = state.push()
    assert again.bytes == 0
    assert again.seconds < 0.5
    other, there = pod("b")
    start = time.monotonic()
    other.pull()
    pull_s = time.monotonic() - start
    assert (there / "big").stat().st_size == 64 * 2**20
    figures = {
        "push_s": pushed.seconds,
        "push_cpu_s": cpu,
        "bytes": pushed.bytes,
        "unchanged_s": again.seconds,
        "pull_s": pull_s,
    }
    for name, value in figures.items():
        record_property(name, value)
    print(figures)


def test_the_spool_of_a_step_without_taking_it_over(
    pod: Pod, root: str, tmp_path: Path, keys: Keys
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, checkpoint=b"c", spool__events__1=b"e\n", outputs__x=b"x")
    state.push()
    before = keys()
    assert saved_steps(root, "r1") == ["search"]
    assert saved_steps(root, "r2") == []
    assert copy_part(root, "r1", "search", "spool", tmp_path / "spool")
    assert files_in(tmp_path / "spool") == {"events/1": b"e\n"}
    assert not copy_part(root, "r1", "search", "other", tmp_path / "other")
    assert not copy_part(root, "r1", "train_final", "spool", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert keys() == before
    fill(folder, checkpoint=b"d")
    state.push()


def test_a_state_that_is_replaced_while_a_part_is_read(
    pod: Pod, root: str, tmp_path: Path, relay: Relay
) -> None:
    state, folder = pod("a")
    state.pull()
    fill(folder, spool__a=b"1")
    state.push()
    replaced: list[Any] = []

    def watch(head: bytes) -> None:
        if head.startswith((b"GET", b"HEAD")) and b"/files/" in head and not replaced:
            replaced.append(head)
            fill(folder, spool__a=b"2")
            state.push()

    relay.on_request = watch
    assert copy_part(root, "r1", "search", "spool", tmp_path / "spool")
    assert files_in(tmp_path / "spool") == {"a": b"2"}
