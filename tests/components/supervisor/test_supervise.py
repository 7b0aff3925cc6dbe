"""The supervisor with real child processes: restarts, and reports of a bad end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.ending import End

ROOT = Path(__file__).parents[3]
RUN_ID = "0f82d07e-593c-41dd-9dc7-d0dd25be691d"
INPUT = json.dumps({"outputs": {}})

# Each child counts its starts in a file of its folder, so that it can behave by their number.
COUNT = """
import json, os, pathlib, signal, sys, time
state = pathlib.Path(os.environ["NAS_STATE_DIR"])
file = state / "starts"
n = int(file.read_text()) + 1 if file.exists() else 1
file.write_text(str(n))
def end(kind, reason):
    pathlib.Path(os.environ["NAS_END_FILE"]).write_text(
        json.dumps({"step": "search", "kind": kind, "reason": reason}))
    sys.exit(1)
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("NAS_")},
        "PYTHONPATH": str(ROOT),
        "NAS_STATE_ROOT": str(folder),
        "NAS_RUN_ID": RUN_ID,
        "NAS_RESTARTS": "5",
        "NAS_RESTART_PAUSE_S": "0",
        **more,
    }


def supervised(folder: Path, child: str, *, step: str = "search") -> list[str]:
    """The command of a supervisor whose work is `child`, a text of Python."""
    folder.mkdir(exist_ok=True)
    work = [sys.executable, "-c", COUNT + child]
    code = (
        "import sys; from components.supervisor.supervise import supervise; "
        f"sys.exit(supervise({step!r}, {work!r}, {INPUT!r}))"
    )
    return [sys.executable, "-c", code]


def run(folder: Path, child: str, *, step: str = "search", **more: str) -> tuple[int, str]:
    ended = subprocess.run(
        supervised(folder, child, step=step),
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stdout + ended.stderr


def starts(folder: Path) -> int:
    return int((folder / RUN_ID / "starts").read_text())


def test_work_that_is_killed_is_started_again_and_finds_its_state(tmp_path: Path) -> None:
    """Finding C3: Kubeflow does not do it."""
    status, log = run(tmp_path, "n < 4 and os.kill(os.getpid(), signal.SIGKILL)")
    assert (status, starts(tmp_path)) == (0, 4), log
    assert "search ended: killed by SIGKILL; restart 3 of 5" in log
    assert End.parse_last(log) is None


def test_the_number_of_restarts_is_limited(tmp_path: Path) -> None:
    status, log = run(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    assert (status, starts(tmp_path)) == (1, 6)
    assert End.parse_last(log) == End("search", "crash", "killed by SIGSEGV; started 6 times")
    assert log.splitlines()[-1].startswith("nas-end: "), "the log's last line is what KFP shows"


def test_an_error_that_comes_three_times_in_a_row_is_final(tmp_path: Path) -> None:
    status, log = run(tmp_path, "end('crash', 'KeyError: x')")
    assert (status, starts(tmp_path)) == (1, 3)
    end = End.parse_last(log)
    assert end is not None
    assert end.reason == "KeyError: x; started 3 times"


def test_a_reason_is_written_without_secrets(tmp_path: Path) -> None:
    """Also in the messages between two starts."""
    url, header = "postgresql://me:hunter2@db/x", "Authorization: Bearer tok-98765"
    status, log = run(tmp_path, f"end('crash', 'no answer from {url} to {header}')")
    assert (status, starts(tmp_path)) == (1, 3)
    assert "search ended: no answer from postgresql://me:***@db/x" in log
    assert "hunter2" not in log
    assert "tok-98765" not in log


def test_wrong_input_is_not_tried_again(tmp_path: Path) -> None:
    status, log = run(tmp_path, "end('input', 'the input is wrong: seed = x')")
    assert (status, starts(tmp_path)) == (1, 1)
    assert End.parse_last(log) == End("search", "input", "the input is wrong: seed = x")


def test_an_outage_is_tried_again(tmp_path: Path) -> None:
    status, _ = run(tmp_path, "n < 5 and end('outage', 'no answer')")
    assert (status, starts(tmp_path)) == (0, 5)


@pytest.mark.parametrize("child", ["os.kill(os.getpid(), 9)", "end('crash', 'x')"])
def test_a_helper_that_gives_up_ends_well(tmp_path: Path, child: str) -> None:
    """Finding H3: a failed helper would make the whole run FAILED."""
    status, log = run(tmp_path, child, step="search_worker", NAS_RESTARTS="1")
    assert status == 0
    assert "this worker gives up" in log
    assert End.parse_last(log) is not None


def test_a_signal_is_forwarded_and_ends_the_step(tmp_path: Path) -> None:
    """Finding H2: the child must hear of it at once; the container lives for a moment only."""
    child = """
def stop(*_):
    (state / "stopped").write_text(str(time.time()))
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
(state / "ready").touch()
time.sleep(30)
"""
    process = subprocess.Popen(
        supervised(tmp_path, child), env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    )
    ready = tmp_path / RUN_ID / "ready"
    while not ready.exists():
        time.sleep(0.01)
    asked = time.time()
    process.terminate()
    log, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert float((tmp_path / RUN_ID / "stopped").read_text()) - asked < 0.5
    end = End.parse_last(log)
    assert end is not None
    assert end.kind == "stopped"
    assert starts(tmp_path) == 1


def test_a_signal_in_a_pause_ends_the_step(tmp_path: Path) -> None:
    process = subprocess.Popen(
        supervised(tmp_path, "os.kill(os.getpid(), 9)"),
        env=environment(tmp_path, NAS_RESTART_PAUSE_S="30"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "restart 1 of 5 in 30 s" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 1
    assert starts(tmp_path) == 1


def test_a_volume_that_cannot_be_written_is_reported_in_one_message(tmp_path: Path) -> None:
    """Finding H1: volumes come root-owned, and nothing in Kubeflow changes that."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o555)
    program, flag, code = supervised(folder, "sys.exit(0)")
    if os.getuid() == 0:  # who may write everywhere
        code = code.replace("sys.exit(", "import os; os.setgid(10001); os.setuid(10001); sys.exit(")
    ended = subprocess.run(
        [program, flag, code],
        env=environment(folder, HOME="/nowhere"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    end = End.parse_last(ended.stdout)
    assert end is not None
    assert end.kind == "input"
    assert "cannot be written by user" in end.reason
    assert "nas-state-permissions" in end.reason


def test_threads_and_home_suit_the_container(tmp_path: Path) -> None:
    """Findings M5 and L5."""
    child = """
(state / "seen").write_text(json.dumps([os.environ["OMP_NUM_THREADS"], os.environ["HOME"]]))
"""
    more = {"NAS_CPUS": "3", "HOME": "/nowhere", "TMPDIR": str(tmp_path)}
    without = environment(tmp_path, **more)
    without.pop("OMP_NUM_THREADS", None)
    subprocess.run(supervised(tmp_path, child), env=without, check=True, timeout=60)
    threads, home = json.loads((tmp_path / RUN_ID / "seen").read_text())
    assert threads == "3"
    assert os.access(home, os.W_OK)


def test_without_a_place_for_state_a_crash_still_loses_nothing(tmp_path: Path) -> None:
    surroundings = environment(tmp_path, TMPDIR=str(tmp_path))
    del surroundings["NAS_STATE_ROOT"]
    command = supervised(tmp_path, "n < 3 and os.kill(os.getpid(), 9)")
    assert subprocess.run(command, env=surroundings, timeout=60).returncode == 0
    assert (tmp_path / "nas-state" / RUN_ID / "starts").read_text() == "3"


def test_runs_without_an_identifier_share_no_state(tmp_path: Path) -> None:
    surroundings = environment(tmp_path, TMPDIR=str(tmp_path))
    del surroundings["NAS_STATE_ROOT"], surroundings["NAS_RUN_ID"]
    command = supervised(tmp_path, "n < 2 and os.kill(os.getpid(), 9)")
    for _ in range(2):
        assert subprocess.run(command, env=surroundings, timeout=60).returncode == 0
    assert [one.read_text() for one in sorted(tmp_path.glob("nas-state*/starts"))] == ["2", "2"]


def test_a_volume_needs_the_identifier_of_the_run(tmp_path: Path) -> None:
    status, said = run(tmp_path, "pass", NAS_RUN_ID="")
    assert status == 1
    assert "NAS_RUN_ID" in said


def test_outside_a_cluster_the_work_runs_in_the_very_process(tmp_path: Path) -> None:
    surroundings = environment(tmp_path)
    del surroundings["NAS_RESTARTS"]
    command = [sys.executable, "-m", "components.supervisor", "kfp.dsl.executor_main"]
    command += ["--function_to_execute", "no_such_step", "--executor_input", INPUT]
    process = subprocess.Popen(command, env=surroundings, stderr=subprocess.PIPE, text=True)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "supervisor" not in log.partition("Traceback")[2]


@pytest.mark.parametrize(
    ("step", "given", "said"),
    [
        ("no_step", '{"outputs": {}}', "step = no_step: is no step"),
        ("_log", '{"outputs": {}}', "step = _log: is no step"),
        ("search", "{bad", "is no JSON"),
        ("search", "{}", "has no outputs"),
        ("search", "[]", "has no outputs"),
    ],
)
def test_an_invocation_that_can_never_work_is_tried_once(
    step: str, given: str, said: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "components.supervisor", "kfp.dsl.executor_main"]
    command += ["--function_to_execute", step, "--executor_input", given]
    ended = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    end = End.parse_last(ended.stdout)
    assert end is not None
    assert end.kind == "input"
    assert said in end.reason


@pytest.mark.parametrize("name", ["NAS_RESTARTS", "NAS_RESTART_PAUSE_S"])
def test_a_variable_that_is_no_number_is_named(name: str, tmp_path: Path) -> None:
    status, log = run(tmp_path, "sys.exit(0)", **{name: "many"})
    end = End.parse_last(log)
    assert status == 1
    assert end is not None
    assert (end.kind, f"{name} = many" in end.reason) == ("input", True)
