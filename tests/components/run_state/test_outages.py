"""An object store that is unreachable, hangs, loses answers or damages what it sends."""

import threading
import time

import pytest
from s3 import Relay
from state_files import Keys, Pod, files_in, fill, said, settle

from nascore.errors import InputError, ResourceUnavailable

MANIFEST = "r1/search/manifest.json"


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
