"""Additional worker processes: started again when they die, and ended with the step."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from callbacks import CallbacksOf

from components.config.schema import Config
from components.steps import workers
from components.steps.context_builder import StepInputs
from components.steps.workers import worker_processes
from nascore.methods.registry import METHODS

# Each start writes its process id to the folder and takes the next exit status from the file.
PROGRAM = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / str(os.getpid())).write_text(os.environ.get("RANK", ""))
status, *rest = (folder / "statuses").read_text().split()
(folder / "statuses").write_text(" ".join(rest))
if status == "wait":
    time.sleep(60)
sys.exit(int(status))
"""


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StepInputs:
    def command(self: object) -> list[str]:
        with open(tmp_path / "commands", "a") as file:
            file.write("1")
        return [sys.executable, "-c", PROGRAM, str(tmp_path)]

    monkeypatch.setattr(workers._Workers, "_command", command)
    monkeypatch.setattr(workers, "_POLL_S", 0.01)
    return StepInputs(
        config=Config(method="random"),
        dataset=tmp_path,
        controller=tmp_path,
        state=tmp_path,
        run_key="key",
    )


def started(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_dies_is_started_again_until_its_work_is_done(
    inputs: StepInputs, tmp_path: Path
) -> None:
    (tmp_path / "statuses").write_text("1 7 0 0")
    messages: list[str] = []
    with worker_processes(inputs, 1, CallbacksOf(on_message=messages.append)):
        wait_until(lambda: len(started(tmp_path)) == 3)
        wait_until(lambda: not any(is_running(pid) for pid in started(tmp_path)))
    assert messages == [
        "worker 1 ended with status 1; it is started again",
        "worker 1 ended with status 7; it is started again",
    ]
    assert len(started(tmp_path)) == 3


def test_a_worker_that_dies_always_is_given_up(
    inputs: StepInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_MAX_STARTS", 2)
    (tmp_path / "statuses").write_text("1 1 1")
    messages: list[str] = []
    with worker_processes(inputs, 1, CallbacksOf(on_message=messages.append)):
        wait_until(lambda: len(messages) == 3)
    assert messages[-1] == "worker 1 has died 2 times; the others continue without it"
    assert len(started(tmp_path)) == 2


@pytest.mark.parametrize("by_signal", [False, True])
def test_workers_end_with_the_step_or_when_it_is_asked_to_stop(
    inputs: StepInputs, tmp_path: Path, by_signal: bool
) -> None:
    (tmp_path / "statuses").write_text("wait wait")
    asked: list[bool] = []
    messages: list[str] = []
    callbacks = CallbacksOf(on_message=messages.append, should_stop=lambda: bool(asked))
    with worker_processes(inputs, 1, callbacks):
        wait_until(lambda: len(started(tmp_path)) == 1)
        (pid,) = started(tmp_path)
        if by_signal:
            asked.append(True)
            wait_until(lambda: not is_running(pid))
    assert not is_running(pid)
    assert messages == []


def test_workers_of_one_network_have_ranks_and_are_not_started_again(
    inputs: StepInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    grouped = next(name for name, method in METHODS.items() if method.worker_layout == "group")
    own = StepInputs(
        config=inputs.config.model_copy(update={"method": grouped}),
        dataset=tmp_path,
        controller=tmp_path,
        state=tmp_path,
        run_key="key",
    )
    (tmp_path / "statuses").write_text("3 3")
    messages: list[str] = []
    with worker_processes(own, 1, CallbacksOf(on_message=messages.append)):
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("0", "2")
        wait_until(lambda: len(messages) == 1)
    assert messages == ["worker 1 ended with status 3"]
    assert (tmp_path / "commands").read_text() == "1", "the whole group ends with it"
    (pid,) = started(tmp_path)
    assert (tmp_path / str(pid)).read_text() == "1"
    assert "RANK" not in os.environ
