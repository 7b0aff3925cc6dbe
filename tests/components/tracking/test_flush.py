"""What ended steps have left in their spools is sent within a limited time, or reported."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from components.tracking import Tracker
from components.tracking.flush import send_left, spools_of
from components.tracking.reading import num_unsent
from components.tracking.replay import lock_of

Runs = Callable[..., dict]


def leave(state: Path, step: str, uri: str) -> Path:
    """Write three events that are not sent."""
    spool = state / step / "spool"
    tracker = Tracker.open(spool, uri=uri, experiment="nas")
    tracker.run("p", name="pipeline")
    run = tracker.run(f"p.{step}", name=step, parent="p")
    run.metrics({"accuracy": 0.5})
    tracker.close()
    return spool


def test_the_spools_of_all_steps_are_sent_in_the_order_in_which_they_were_begun(
    tmp_path: Path, store: str, runs_by_key: Runs
) -> None:
    steps = ("prepare_data", "search", "promote")
    spools = [leave(tmp_path, step, store) for step in steps]
    (tmp_path / "search" / "outputs").mkdir()
    assert spools_of(tmp_path) == spools
    assert send_left(spools, limit_s=30) == ()
    assert [num_unsent(spool) for spool in spools] == [0, 0, 0]
    found = runs_by_key(store)
    assert found.keys() == {"p", *(f"p.{step}" for step in steps)}
    assert all(len(runs) == 1 for runs in found.values())


def test_where_nothing_is_left_mlflow_is_not_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from components.tracking.flush import send_left, spools_of\n"
        f"assert send_left(spools_of(Path({str(tmp_path)!r})), limit_s=5) == ()\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ, check=True, timeout=60)


def test_a_server_that_never_answers_is_given_up_and_the_events_stay(tmp_path: Path) -> None:
    with socket.socket() as mute:  # it takes connections and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        spools = [leave(tmp_path, step, uri) for step in ("search", "promote")]
        start = time.monotonic()
        first, second = send_left(spools, limit_s=2)
    assert time.monotonic() - start < 6
    assert (first.spool, first.count, first.reason) == (
        spools[0],
        3,
        "the store: no answer within 2 s",
    )
    assert second.reason == "there was no time left"
    assert f"python -m components.tracking.replayer --spool {spools[0]}" in str(first)
    assert num_unsent(spools[0]) == 3


def test_events_that_another_process_sends_are_left_to_it(tmp_path: Path, store: str) -> None:
    spool = leave(tmp_path, "search", store)
    with lock_of(spool, wait=False):
        (unsent,) = send_left([spool], limit_s=5)
    assert unsent.reason == "another process is sending them"
    assert num_unsent(spool) == 3
