"""Snapshots of a folder while another process writes there."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.run_state import snapshot
from components.run_state.snapshot import FileChanged, Snapshot, is_unchanged, take_snapshot
from nascore.errors import ResourceUnavailable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "search"
    made.mkdir()
    return made


@pytest.fixture
def take(folder: Path, tmp_path: Path) -> Callable[..., Snapshot]:
    places = iter(range(1000))

    def taken(**settings: object) -> Snapshot:
        place = tmp_path / f"place{next(places)}"
        place.mkdir()
        return take_snapshot(folder, place, **{"known": {}, **settings})

    return taken


def contents(taken: Snapshot) -> dict[str, bytes]:
    return {item.path: item.source.read_bytes() for item in taken.files if item.source is not None}


@pytest.fixture
def writing() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """`writing(write)` calls `write(n)` again and again in a thread until the test has ended."""
    over = threading.Event()
    threads = []

    def start(write: Callable[[int], None]) -> None:
        def work() -> None:
            number = 0
            while not over.is_set():
                write(number)
                number += 1

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


def replace_file(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def test_files_folders_and_modes(folder: Path, take: Callable[..., Snapshot]) -> None:
    (folder / "outputs" / "weights").mkdir(parents=True)
    (folder / "a.ckpt").write_bytes(b"a")
    (folder / "outputs" / "done.json").write_text("{}")
    (folder / "a.ckpt").chmod(0o600)
    taken = take()
    assert contents(taken) == {"a.ckpt": b"a", "outputs/done.json": b"{}"}
    assert taken.folders == ("outputs/weights",)
    assert next(item for item in taken.files if item.path == "a.ckpt").mode == 0o600


def test_what_is_no_state_is_left_out(folder: Path, take: Callable[..., Snapshot]) -> None:
    for name in (".a.ckpt.123", "x.db-wal", "x.db-shm", "x.db-journal", "b.ckpt"):
        (folder / name).write_bytes(b"x")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "c").write_bytes(b"x")
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    taken = take()
    assert contents(taken) == {"b.ckpt": b"x"}
    assert taken.folders == ()


def test_of_a_step_that_has_succeeded_only_results_are_taken(
    folder: Path, take: Callable[..., Snapshot]
) -> None:
    for name in (
        *("outputs/model/weights.pt", "outputs/done.json", "spool/events/1.jsonl"),
        *("search_result.json", "refused.json", "a.ckpt", "study.db", "checkpoints/b.json"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x\n")
    assert set(contents(take(done=True))) == {
        *("outputs/model/weights.pt", "outputs/done.json", "spool/events/1.jsonl"),
        *("search_result.json", "refused.json"),
    }


def test_events_end_with_a_whole_line(folder: Path, take: Callable[..., Snapshot]) -> None:
    (folder / "a.jsonl").write_bytes(b'{"n": 1}\n{"n": 2}\n{"n"')
    (folder / "b.jsonl").write_bytes(b'{"n"')
    assert contents(take()) == {"a.jsonl": b'{"n": 1}\n{"n": 2}\n', "b.jsonl": b""}


def test_a_known_file_is_not_read(folder: Path, take: Callable[..., Snapshot]) -> None:
    (folder / "a.ckpt").write_bytes(b"a")
    known = {item.path: item.stamps for item in take().files}
    again = take(known=known)
    assert contents(again) == {}
    assert [item.path for item in again.files] == ["a.ckpt"]
    (folder / "a.ckpt").write_bytes(b"b!")
    assert contents(take(known=known)) == {"a.ckpt": b"b!"}


def test_a_file_that_was_just_written_may_change_within_its_time_stamp(
    folder: Path, take: Callable[..., Snapshot]
) -> None:
    (folder / "a.ckpt").write_bytes(b"a")
    assert not take().files[0].is_settled
    os.utime(folder / "a.ckpt", (time.time() - 5,) * 2)
    assert take().files[0].is_settled


def test_a_link_keeps_what_was_there_and_tells_what_is_written_in_place(
    folder: Path, take: Callable[..., Snapshot]
) -> None:
    (folder / "a.ckpt").write_bytes(b"old")
    taken = take()
    replace_file(folder / "a.ckpt", b"newer")
    assert contents(taken) == {"a.ckpt": b"old"}
    assert is_unchanged(taken.files[0])
    taken = take()
    with open(folder / "a.ckpt", "ab") as file:
        file.write(b"!")
    assert not is_unchanged(taken.files[0])


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_is_copied_between_transactions(
    folder: Path, take: Callable[..., Snapshot], writing: Callable[..., None], mode: str
) -> None:
    """Two tables always have the same number of rows; what is written is never part of a copy."""
    with sqlite3.connect(folder / "study.db") as made:
        made.execute(f"PRAGMA journal_mode={mode}")
        made.executescript("CREATE TABLE a (n, pad); CREATE TABLE b (n, pad)")
    made.close()
    connection = sqlite3.connect(folder / "study.db", check_same_thread=False, timeout=30)

    def write(number: int) -> None:
        with connection:
            connection.execute("INSERT INTO a VALUES (?, zeroblob(5000))", (number,))
            connection.execute("INSERT INTO b VALUES (?, zeroblob(5000))", (number,))
        time.sleep(0.002)

    writing(write)
    seen = []
    for _ in range(12):
        taken = take()
        assert [item.path for item in taken.files] == ["study.db"]
        assert taken.files[0].source is not None
        copy = sqlite3.connect(taken.files[0].source)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = [copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in "ab"]
        copy.close()
        assert rows[0] == rows[1]
        seen.append(rows[0])
        time.sleep(0.02)
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_a_copy_of_an_unchanged_database_is_the_same(
    folder: Path, take: Callable[..., Snapshot]
) -> None:
    with sqlite3.connect(folder / "study.db") as made:
        made.execute("PRAGMA journal_mode=wal")
        made.executescript("CREATE TABLE a (n); INSERT INTO a VALUES (1)")
    made.close()
    assert contents(take()) == contents(take())


def test_a_database_that_stays_locked_is_reported(
    folder: Path, take: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_LOCKED_S", 0.2)
    connection = sqlite3.connect(folder / "study.db", isolation_level=None)
    connection.execute("CREATE TABLE a (n)")
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ResourceUnavailable, match="locked"):
        take()
    connection.close()


def test_a_damaged_database_is_reported(folder: Path, take: Callable[..., Snapshot]) -> None:
    (folder / "study.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(ResourceUnavailable, match=r"study\.db: SQLite cannot copy it"):
        take()


def test_another_file_with_the_name_of_a_database(
    folder: Path, take: Callable[..., Snapshot]
) -> None:
    (folder / "words.db").write_bytes(b"text")
    (folder / "none.db").write_bytes(b"")
    assert contents(take()) == {"words.db": b"text", "none.db": b""}


def test_all_files_are_of_one_moment(
    folder: Path,
    take: Callable[..., Snapshot],
    writing: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program writes number n into b, then c, then a: at any moment b >= c >= a >= b - 1.

    Taking all three takes longer than writing them.
    """
    real = snapshot._link_or_copy

    def slow(path: Path, target: Path) -> bool:
        time.sleep(0.003)
        return real(path, target)

    def write(number: int) -> None:
        for name in ("b.ckpt", "c.ckpt", "a.ckpt"):
            replace_file(folder / name, b"%d" % number)
            time.sleep(0.002)
        time.sleep(0.015)

    monkeypatch.setattr(snapshot, "_link_or_copy", slow)
    write(0)
    writing(write)
    seen = set()
    for _ in range(40):
        found = {name: int(value) for name, value in contents(take()).items()}
        a, b, c = found["a.ckpt"], found["b.ckpt"], found["c.ckpt"]
        assert b >= c >= a >= b - 1, (a, b, c)
        seen.add(b)
        time.sleep(0.005)
    assert len(seen) > 5


def test_files_that_come_and_go(
    folder: Path, take: Callable[..., Snapshot], writing: Callable[..., None]
) -> None:
    (folder / "stays").write_bytes(b"x")

    def write(number: int) -> None:
        path = folder / f"{number % 5}.ckpt"
        path.write_bytes(b"x")
        time.sleep(0.002)
        path.unlink()

    writing(write)
    for _ in range(30):
        assert "stays" in contents(take())


def test_files_that_change_all_the_time_are_reported(
    folder: Path, take: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (folder / name).write_bytes(b"")
    real = snapshot._link_or_copy

    def slow(path: Path, target: Path) -> bool:
        result = real(path, target)
        for name in "abc":
            replace_file(folder / name, b"x")
        return result

    monkeypatch.setattr(snapshot, "_link_or_copy", slow)
    with pytest.raises(FileChanged):
        take()


def test_a_file_system_without_links(
    folder: Path, take: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (folder / "a.ckpt").write_bytes(b"a")
    assert contents(take()) == {"a.ckpt": b"a"}
    assert not take().files[0].is_link
