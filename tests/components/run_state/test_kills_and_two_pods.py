"""Killed pushers, and two pods of one step."""

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
from s3 import Relay
from state_files import Keys, Pod, files_in, fill, said, settle
from unkind_s3 import UnkindRelay

from components.run_state.object_store import ObjectState, StateTaken

MANIFEST = "r1/search/manifest.json"


# --- killed -----------------------------------------------------------------------------------

_NUM_KILLS = 12  # at least
_MAX_KILLS = 60
_NUM_TORN = 4  # kills between the first object of a push and the last removal, at least
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
    """Up to 20 ms after one of its first 15 requests, until enough kills fell inside of a push."""
    context = multiprocessing.get_context("fork")
    counter = context.Value("q", 0)
    rng = random.Random(0)
    versions, num_torn, number = [], 0, 0
    while number < _NUM_KILLS or num_torn < _NUM_TORN or len(set(versions)) < _NUM_TORN:
        assert number < _MAX_KILLS, (num_torn, versions)
        number += 1
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


@pytest.mark.parametrize("fault", ["ignore conditions", "501 to conditions"])
def test_two_pods_one_after_the_other_without_conditional_writes(
    pod: Pod, unkind: UnkindRelay, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    unkind.fault = fault
    old, old_folder = pod("old")
    old.pull()
    fill(old_folder, a=b"1")
    old.push()
    new, new_folder = pod("new")
    new.pull()
    fill(new_folder, a=b"2")
    new.push()
    fill(old_folder, a=b"3")
    assert "was taken over by pod" in said(old.push, StateTaken)
    third, there = pod("third")
    third.pull()
    assert files_in(there) == {"a": b"2"}
    warnings = [one for one in caplog.messages if "has no conditional writes" in one]
    assert len(warnings) == 1


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
