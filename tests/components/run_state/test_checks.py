"""Whether a place for states can be used: every problem is reported, and nothing is left there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3 import SECRET_KEY, Relay
from unkind_s3 import UnkindRelay

from components.object_store import connection
from components.run_state.checks import check_state
from nascore.errors import InputError, ResourceUnavailable

Keys = Callable[[], dict[str, int]]


def said(root: str, **settings: float) -> list[str]:
    with pytest.raises(InputError) as caught:
        check_state(root, **settings)
    assert SECRET_KEY not in str(caught.value)
    assert all(problem.key == "cluster.state" for problem in caught.value.problems)
    return [problem.message for problem in caught.value.problems]


def test_a_store_that_will_do(root: str, keys: Keys) -> None:
    check_state(root)
    assert keys() == {}


def test_without_any_right(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    listing, writing_ = said(root)
    assert listing == "may not be listed with these credentials; grant s3:ListBucket"
    assert writing_.startswith("writing failed: may not be read or written with these credentials")
    assert "s3:DeleteObject" in writing_


def test_every_request_that_is_refused_is_reported(
    root: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_ATTEMPTS", 1)

    def watch(head: bytes) -> None:
        refused = head.startswith(b"DELETE") or (b"GET" in head and b"list-type=2" not in head)
        relay.mode = "errors" if refused else "pass"

    relay.on_request = watch
    (found,) = said(root, retry_timeout_s=0)
    assert found.startswith("reading, removing failed: the server does not answer as it should")


@pytest.mark.parametrize("fault", ["ignore conditions", "501 to conditions", "400 to conditions"])
def test_a_store_without_conditions_is_used_with_a_warning(
    root: str, keys: Keys, unkind: UnkindRelay, fault: str
) -> None:
    unkind.fault = fault
    assert "has no conditional writes (If-None-Match, If-Match)" in check_state(root)
    assert keys() == {}


def test_the_server_or_the_bucket_is_not_there(
    root: str, s3: Any, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = said("s3://nowhere/a")  # SeaweedFS would make the bucket by a write
    assert found.startswith("there is no such bucket")
    relay.mode = "away"
    (found,) = said(root)
    assert found.startswith("the server does not answer as it should")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (found,) = said(root)
    assert "no complete credentials" in found
    assert "nowhere" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_a_folder(tmp_path: Path) -> None:
    check_state(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "state"
    if kind == "file":
        place.write_text("")
    with pytest.raises(ResourceUnavailable, match="cannot be written and read by user"):
        check_state(str(place))
