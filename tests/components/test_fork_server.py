"""Steps by fork: a fork is as good as a process of its own, in life and in death."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from components.fork_client import SOCKET, VARIABLE

ROOT = Path(__file__).parent.parent.parent
# In place of a step: says what it sees, and ends as the arguments say.
WORK = """
import json, os, sys, time, components.execute, components.fork_server
def main():
    step, seconds, status = sys.argv[1:]
    seen = {"folder": os.getcwd(), "imported": os.environ.get("OF_MODULE"),
            "mark": os.environ.get("MARK"), "has_colorsys":
            "colorsys" in sys.modules, "variable": os.environ.get("NAS_FORK_SERVER")}
    print(json.dumps(seen))
    with open(os.environ["PIDS"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(float(seconds))
    if status == "raise":
        raise RuntimeError("this step fails")
    return int(status)
components.execute.main = main
sys.exit(components.fork_server.main())
"""
ASK = """
import sys
from components.fork_client import run
status = run(sys.argv[1:])
sys.exit(77 if status is None else status)
"""


class Server:
    def __init__(self, folder: Path, preload: dict[str, list[str]]) -> None:
        self.folder, self.pids = folder, folder / "pids"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / SOCKET))
            listener.listen()
            number = listener.fileno()
            command = [sys.executable, "-c", WORK, str(folder), "--listener", str(number)]
            self.process = subprocess.Popen(
                [*command, "--preload", json.dumps(preload)],
                pass_fds=(number,),
                env={
                    **os.environ,
                    "NAS_PROGRESS_FILE": str(folder / "progress"),
                    "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
                },
            )

    def ask(self, step: str, seconds: float = 0, status: str = "0") -> "subprocess.Popen[str]":
        environment = {VARIABLE: str(self.folder), "MARK": "ä", "PIDS": str(self.pids)}
        return subprocess.Popen(
            [sys.executable, "-c", ASK, step, str(seconds), status],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fork(self) -> psutil.Process:
        """The fork that was made last; waits for it."""
        until(lambda: self.pids.exists() and self.pids.read_text().endswith("\n"))
        return psutil.Process(int(self.pids.read_text().split()[-1]))


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # A socket's path is short, and that of a test's own folder need not be.
    folder = tmp_path_factory.mktemp("f")
    (folder / "setting.py").write_text('import os; os.environ["OF_MODULE"] = "set"')
    made = Server(folder, {"": ["no_such_module"], "first": ["setting", "colorsys"]})
    yield made
    made.process.kill()
    made.process.wait()


def test_a_fork_has_the_folder_environment_and_output_of_who_asked(server: Server) -> None:
    said, _ = server.ask("first").communicate(timeout=30)
    seen = json.loads(said)
    assert seen == {
        "folder": str(server.folder),
        "imported": None,
        "mark": "ä",
        "has_colorsys": False,
        "variable": None,
    }
    until(lambda: "colorsys" in (server.folder / "progress").read_text())
    said, _ = server.ask("second").communicate(timeout=30)
    seen = json.loads(said)
    assert seen["has_colorsys"], "imported once, while the first step ran"
    assert seen["imported"] == "set", "as if the fork had imported it"


@pytest.mark.parametrize(("status", "expected"), [("0", 0), ("3", 3), ("raise", 1)])
def test_its_end_is_that_of_who_asked(server: Server, status: str, expected: int) -> None:
    process = server.ask("step", status=status)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == expected
    assert ("RuntimeError: this step fails" in said) == (status == "raise")


def test_a_fork_that_is_killed_is_reported(server: Server) -> None:
    process = server.ask("step", 60)
    server.fork().kill()
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL
    assert "SIGKILL" in said
    assert server.process.poll() is None
    assert server.ask("step").wait(timeout=30) == 0, "the server serves on"


@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_fork_ends_with_who_asked_and_with_the_server(server: Server, victim: str) -> None:
    process = server.ask("step", 60)
    fork = server.fork()
    (process if victim == "client" else server.process).kill()
    process.wait(timeout=30)
    assert process.returncode != 0
    until(lambda: not fork.is_running() or fork.status() == psutil.STATUS_ZOMBIE)


def test_asked_to_end_it_waits_for_its_forks(server: Server) -> None:
    process = server.ask("step", 1.0, "5")
    server.fork()
    server.process.terminate()
    assert process.wait(timeout=30) == 5
    assert server.process.wait(timeout=30) == 0


def test_two_forks_work_at_the_same_time(server: Server) -> None:
    slow = server.ask("step", 60)
    server.fork()
    assert server.ask("step", 0, "4").wait(timeout=30) == 4
    assert slow.poll() is None
    slow.kill()
    slow.wait()


def test_without_its_server_a_step_starts_by_itself(server: Server) -> None:
    server.process.kill()
    server.process.wait()
    process = server.ask("step")
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 77
    assert "by itself" in said
