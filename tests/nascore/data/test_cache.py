"""The cache of decoded images: the same batches as from files, whole or not at all, shared."""

import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_trees import names, write
from torch import Tensor

from nascore.config import DataConfig
from nascore.data import decoding, mapped, parallel
from nascore.data.batches import load
from nascore.data.cache import DecodedCache, cache_key
from nascore.data.file_access import LocalFiles, changed
from nascore.data.images import ImagesInMemory, MappedImages, StreamedImages
from nascore.data.pixels import PixelFormat
from nascore.data.prepared import DatasetInfo, prepare
from nascore.errors import InputError, ResourceUnavailable

CPU = torch.device("cpu")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path / "caches"))
    return tmp_path / "caches" / "decoded"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Images that take 1.5 MB when they are decoded to 128 pixels."""
    root: Path = write(tmp_path / "in", names(count=16))
    return root


def prepared(tree: Path, folder: Path, **settings: Any) -> DatasetInfo:
    config = {"image_size": 128, "memory_limit_mb": 1, **settings}
    return prepare(DataConfig(source=f"imagefolder:{tree}", **config), 0, folder)


def pixels(folder: Path) -> list[Tensor]:
    return list(load(folder, CPU).train.pixel_batches(5))


def kind_of_images(folder: Path) -> type:
    return type(load(folder, CPU).train._images)


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_children_read_what_was_decoded_once(cache: Path, tree: Path, tmp_path: Path) -> None:
    streamed = prepared(tree, tmp_path / "plain", decoded_cache_mb=0)
    assert kind_of_images(tmp_path / "plain") is StreamedImages
    expected = pixels(tmp_path / "plain")
    info = prepared(tree, tmp_path / "cached")
    assert (info.streamed, info.data_sha256) == (True, streamed.data_sha256)
    assert (info.mean, info.warnings) == (streamed.mean, streamed.warnings)
    shutil.rmtree(tree)
    assert kind_of_images(tmp_path / "cached") is MappedImages
    for one, other in zip(pixels(tmp_path / "cached"), expected, strict=True):
        assert torch.equal(one, other)
    (entry,) = entries(cache)
    assert not (tmp_path / "cached" / "images.npy").exists()
    assert np.load(entry / "images.npy", mmap_mode="r").shape == (32, 3, 128, 128)


def test_prepared_images_are_mapped_on_a_cpu(tree: Path, tmp_path: Path) -> None:
    prepared(tree, tmp_path / "out", memory_limit_mb=100)
    assert kind_of_images(tmp_path / "out") is MappedImages
    info, images = DatasetInfo.load(tmp_path / "out"), np.load(tmp_path / "out" / "images.npy")
    train = np.load(tmp_path / "out" / "splits.npz")["train"]
    assert not info.streamed
    expected = ImagesInMemory(torch.from_numpy(images[train]))
    chosen = [torch.tensor([3, 0, 7])]
    (found,) = load(tmp_path / "out", CPU).train._images.batches(chosen)
    (wanted,) = expected.batches(chosen)
    assert torch.equal(found, wanted)


def test_the_second_run_decodes_nothing_and_says_the_same(
    cache: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree, ["ant/palette.gif"], first=70)
    first = prepared(tree, tmp_path / "a")
    assert [warning["kind"] for warning in first.warnings] == ["converted-palette"]

    def refused(*_: object) -> Any:
        raise AssertionError("nothing is to be decoded")

    monkeypatch.setattr(decoding, "show", refused)
    second = prepared(tree, tmp_path / "b")
    assert second == first


def test_another_size_version_or_background_is_another_entry(tmp_path: Path) -> None:
    lines = [b"a.png\t1", b"b.png\t2"]

    def key(*given: bytes, root: str = "/r", **settings: Any) -> str | None:
        target = PixelFormat(**{"size": 8, "channels": 3, **settings})
        return cache_key(root, iter(given or lines), target)

    assert key() == key()
    others = [
        key(size=9),
        key(channels=1),
        key(background=(0, 0, 0)),
        key(root="/s"),
        key(lines[0], b"b.png\t3"),
        key(*reversed(lines)),
    ]
    assert len({key(), *others}) == 7
    assert key(b"a.png") is None  # a change of the file would not be seen


def test_a_damaged_entry_is_made_again(
    cache: Path, tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = prepared(tree, tmp_path / "a")
    expected = pixels(tmp_path / "a")
    (entry,) = entries(cache)
    for damage in (b"x", b""):
        with open(entry / "images.npy", "r+b") as file:
            file.seek(200_000)
            file.write(damage) if damage else file.truncate()
        assert prepared(tree, tmp_path / f"b{len(damage)}").data_sha256 == first.data_sha256
        for one, other in zip(pixels(tmp_path / "a"), expected, strict=True):
            assert torch.equal(one, other)
    (entry / "entry.json").write_text("{")
    for one, other in zip(pixels(tmp_path / "a"), expected, strict=True):
        assert torch.equal(one, other)
    assert caplog.text.count("are damaged") == 3


def _write_slowly(cache: DecodedCache, started: Any) -> None:
    with cache.locked("key"):
        writer = cache.writer("key", (100, 3, 200, 200))
        assert writer is not None
        for number in range(100):
            writer.add(np.full((1, 200, 200, 3), number, np.uint8))
            if number == 60:
                started.set()
                time.sleep(60)


def test_a_crash_half_way_leaves_no_entry(tmp_path: Path) -> None:
    cache, started = DecodedCache(tmp_path, 2**30), FORK.Event()
    process = FORK.Process(target=_write_slowly, args=(cache, started))
    process.start()
    assert started.wait(20)
    assert [path.name[:5] for path in entries(tmp_path)] == [".key."]
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert cache.open("key", (100, 3, 200, 200)) is None
    with cache.locked("key") as is_usable:
        assert is_usable
        assert entries(tmp_path) == []


def _load(folder: Path, results: Any) -> None:
    results.put([part.numpy().tobytes() for part in pixels(folder)])


def test_of_two_processes_at_once_one_decodes(
    cache: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine, where the first step's cache is not."""
    prepared(tree, tmp_path / "out")
    expected = [part.numpy().tobytes() for part in pixels(tmp_path / "out")]
    shutil.rmtree(cache)
    decoded, results, show = FORK.Value("i", 0), FORK.Queue(), decoding.show  # type: ignore[attr-defined]

    def counted(*given: Any) -> Any:
        with decoded.get_lock():
            decoded.value += 1
        return show(*given)

    monkeypatch.setattr(decoding, "show", counted)
    processes = [FORK.Process(target=_load, args=(tmp_path / "out", results)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [expected] * 3
    for process in processes:
        process.join()
    assert decoded.value == 32
    assert len(entries(cache)) == 1


def test_the_least_used_entry_makes_room(cache: Path, tree: Path, tmp_path: Path) -> None:
    for number, size in enumerate((128, 129, 130), start=1):  # 1.5 MB each
        prepared(tree, tmp_path / str(size), image_size=size, decoded_cache_mb=4)
        for entry in entries(cache):
            os.utime(entry, (number, number)) if entry.stat().st_mtime > 1000 else None
    assert len(entries(cache)) == 2
    kept = {np.load(entry / "images.npy", mmap_mode="r").shape[2] for entry in entries(cache)}
    assert kept == {129, 130}


def test_no_room_is_reported_and_files_are_streamed(
    cache: Path, tree: Path, tmp_path: Path
) -> None:
    info = prepared(tree, tmp_path / "out", decoded_cache_mb=1)
    (warning,) = info.warnings
    assert warning["kind"] == "not-cached"
    assert "the decoded images take 2 MB" in warning["message"]
    assert "raise data.decoded_cache_mb" in warning["message"]
    assert kind_of_images(tmp_path / "out") is StreamedImages


def test_a_folder_that_cannot_be_written_costs_no_run(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path / "file"))
    prepared(tree, tmp_path / "out")
    assert "decoded images cannot be kept in" in caplog.text
    assert kind_of_images(tmp_path / "out") is StreamedImages


def test_damaged_images_are_no_entry(cache: Path, tree: Path, tmp_path: Path) -> None:
    content = (tree / "bee/3.png").read_bytes()
    (tree / "bee/3.png").write_bytes(content[:-40])
    with pytest.raises(InputError, match=r"cannot read bee/3\.png"):
        prepared(tree, tmp_path / "out")
    assert entries(cache) == []


def test_what_vanished_before_another_machine_could_decode_it(
    cache: Path, tree: Path, tmp_path: Path
) -> None:
    prepared(tree, tmp_path / "out")
    shutil.rmtree(cache)
    (tree / "bee/3.png").unlink()
    with pytest.raises(ResourceUnavailable, match=r"bee/3\.png"):
        load(tmp_path / "out", CPU)
    assert entries(cache) == []


# --- large arrays in files --------------------------------------------------------------------


def test_a_large_array_is_no_memory(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepared(tree, tmp_path / "a", memory_limit_mb=100)
    monkeypatch.setattr(mapped, "_IN_MEMORY", 1000)
    assert isinstance(mapped.blank((20, 100)), np.memmap)
    assert prepared(tree, tmp_path / "b", memory_limit_mb=100) == expected
    one, other = ((tmp_path / name / "images.npy").read_bytes() for name in "ab")
    assert one == other


def test_a_full_disk_is_reported(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped, "_IN_MEMORY", 1000)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"does not fit decoded on the disk of .* set TMPDIR"):
        prepared(tree, tmp_path / "out", memory_limit_mb=100)


# --- in processes -----------------------------------------------------------------------------


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_WORTH_PROCESSES", 1)
    monkeypatch.setenv("NAS_CPUS", "2")


def test_decoding_in_processes_is_the_same(
    two_processes: None, cache: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepared(tree, tmp_path / "a")
    found_in_memory = prepared(tree, tmp_path / "b", memory_limit_mb=100)
    monkeypatch.setenv("NAS_CPUS", "1")
    shutil.rmtree(cache)
    expected = prepared(tree, tmp_path / "c")
    assert found == expected
    assert found_in_memory.data_sha256 == expected.data_sha256


def test_as_many_processes_as_processors(two_processes: None) -> None:
    def process_of(_: int) -> int:
        time.sleep(0.01)
        return os.getpid()

    items = list(range(64))
    found = list(parallel.in_parallel(process_of, items, threads=1, what="test"))
    assert len(set(found)) == 2
    assert os.getpid() not in found
    assert list(parallel.in_parallel(lambda item: -item, items, threads=1, what="")) == [
        -item for item in items
    ]


def test_an_input_error_comes_back_whole(two_processes: None) -> None:
    def refused(_: int) -> None:
        raise InputError([changed("a.png")])

    with pytest.raises(InputError) as caught:
        list(parallel.in_parallel(refused, range(9), threads=1, what=""))
    assert caught.value.problems == (changed("a.png"),)


def test_a_process_that_is_killed(two_processes: None) -> None:
    def killed(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ResourceUnavailable, match=r"NAS_CPUS = 2: a process .* give more memory"):
        list(parallel.in_parallel(killed, range(9), threads=1, what="images decoded"))


def _start_and_die(pids: Any) -> None:
    def reported(_: int) -> None:
        pids.put(os.getpid())
        time.sleep(0.2)

    results = parallel.in_parallel(reported, range(64), threads=1, what="")
    next(results)
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_end_with_their_parent(
    two_processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_LOOK_EVERY_S", 0.05)
    pids = FORK.SimpleQueue()
    parent = FORK.Process(target=_start_and_die, args=(pids,))
    parent.start()
    parent.join()
    child = pids.get()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and _state(child) != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_progress_is_logged(
    two_processes: None,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(parallel, "LOG_EVERY_S", 0.0)
    files = LocalFiles(tree)
    listed = [entry for entry in files.entries() if not entry.name.endswith("/")]
    with caplog.at_level(logging.INFO):
        list(parallel.in_parallel(lambda entry: entry.name, listed, threads=1, what="images read"))
    assert "images read: 32 of 32" in caplog.text
