"""The local runner on a tiny pipeline of two steps: what it hands to them and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kfp import compiler, dsl

from pipelines.local import run


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def first(seconds: float, fail: bool):
    """Notes its process; when it is asked to stop it saves, which takes a moment.

    It keeps a result as the steps of a search do, in the state folder of the step `promote`.
    """
    import json
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    def save(signum, frame):
        time.sleep(0.5)
        (out / "saved").touch()
        sys.exit(0)

    out = Path(os.environ["NAS_STATE_DIR"]).parent
    signal.signal(signal.SIGTERM, save)
    with open(out / "first", "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    if fail:
        raise RuntimeError("this step fails")
    names = ("NAS_STATE_DIR", "NAS_PROGRESS_FILE", "NAS_SPOOL_DIR")
    outputs = out / "state" / "promote" / "outputs"
    outputs.mkdir(parents=True)
    (outputs / "result").write_text(json.dumps({name: os.environ[name] for name in names}))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def second():
    """Writes the report, and that it ran."""
    import os
    from pathlib import Path

    state = Path(os.environ["NAS_STATE_DIR"])
    (state.parent / "second").touch()
    (state / "promote" / "outputs" / "report").write_text("<p>done</p>")


def compile_into(
    out: Path, *, seconds: float = 0.0, fail: bool = False, in_branch: bool = False
) -> None:
    def tasks() -> None:
        one = first(seconds=seconds, fail=fail)
        one.set_retry(2, backoff_duration="60s")
        second().after(one)

    @dsl.pipeline(name="tiny")
    def tiny(branch: str = "taken") -> None:
        if in_branch:
            with dsl.If(branch == "taken"):
                tasks()
        else:
            tasks()

    compiler.Compiler().compile(tiny, str(out / run.PIPELINE))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder"
    folder.mkdir()
    return folder


def code(out: Path) -> list[str]:
    """The runner as a process, without the compilation that comes before."""
    script = "import sys; from pipelines.local import run as local\n"
    script += "local.run = lambda out, kind: local.run_compiled(out)\nsys.exit(local.main())"
    return [sys.executable, "-c", script, "--out", str(out)]


def start(out: Path) -> subprocess.Popen[bytes]:
    with open(out / run.LOG, "wb") as log:
        return subprocess.Popen(code(out), stdout=log, stderr=log, start_new_session=True)


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.05)
    return path.read_text()


def test_the_compiled_file_runs_and_its_outputs_are_collected(out: Path) -> None:
    compile_into(out)
    process = start(out)
    assert process.wait(timeout=60) == 0, (out / run.LOG).read_text()
    assert json.loads((out / run.RESULT).read_text()) == run.environment(out)
    assert (out / run.REPORT).read_text() == "<p>done</p>"
    assert not (out / f".{run.RESULT}").exists()


@pytest.mark.parametrize("in_branch", [False, True])
def test_a_failed_step_ends_the_run_at_once(out: Path, in_branch: bool) -> None:
    """The retries of the compiled file, with minutes between them, are for the cluster."""
    compile_into(out, fail=True, in_branch=in_branch)
    assert (out / run.PIPELINE).read_text().count("maxRetryCount: 2") == 1
    assert start(out).wait(timeout=60) == 1
    assert "this step fails" in (out / run.LOG).read_text()
    assert len((out / "first").read_text().splitlines()) == 1
    assert not (out / "second").exists()
    assert not (out / run.RESULT).exists()


def test_sigterm_lets_the_step_save_and_starts_no_other(out: Path) -> None:
    compile_into(out, seconds=120.0)
    process = start(out)
    step = int(wait_for(out / "first"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 1
    assert (out / "saved").exists()
    assert not psutil.pid_exists(step)
    assert not (out / "second").exists()


@pytest.fixture
def orphan(out: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A parent that waits for the runner, and the runner's process id."""
    script = (
        "import os, subprocess, sys; "
        "child = subprocess.Popen([*sys.argv[1:], '--parent', str(os.getpid())]); "
        "print(child.pid, flush=True); child.wait()"
    )
    compile_into(out, seconds=120.0)
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *code(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert parent.stdout is not None
    yield parent, int(parent.stdout.readline())
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()


def test_a_run_whose_command_was_killed_ends_too(
    out: Path, orphan: tuple[subprocess.Popen[bytes], int]
) -> None:
    parent, runner = orphan
    processes = [psutil.Process(runner), psutil.Process(int(wait_for(out / "first")))]
    parent.kill()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []
    assert (out / "saved").exists()
