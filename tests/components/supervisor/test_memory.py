"""Memory limits as the kernel shows them, both versions, and an end before the limit."""

import os
import sys
from pathlib import Path

import pytest

from components.ending import End
from components.supervisor.children import Stop, run_child
from components.supervisor.memory import Memory, advice

GIB = 2**30


def cgroup(root: Path, *, version: int, limit: str, used: int, cache: int, kills: int) -> Path:
    """The files of a memory cgroup, in the forms of the kernel."""
    if version == 2:
        (root / "memory.max").write_text(f"{limit}\n")
        (root / "memory.current").write_text(f"{used}\n")
        (root / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\nactive_file 0\n")
        (root / "memory.events").write_text(f"low 0\nhigh 0\nmax 3\noom 1\noom_kill {kills}\n")
        return root
    folder = root / "memory"
    folder.mkdir(exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    stat = f"inactive_file 0\ntotal_inactive_file {cache}\ntotal_active_file 0\n"
    (folder / "memory.stat").write_text(stat)
    (folder / "memory.oom_control").write_text(
        f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"
    )
    return root


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_the_use_and_the_kills_are_read(version: int, tmp_path: Path) -> None:
    root = cgroup(tmp_path, version=version, limit=f"{2 * GIB}", used=GIB, cache=GIB // 2, kills=3)
    memory = Memory.of_container(root)
    assert memory is not None
    assert (memory.limit, memory.used(), memory.num_kills()) == (2 * GIB, GIB // 2, 3)
    assert not memory.is_nearly_full()
    cgroup(tmp_path, version=version, limit=f"{2 * GIB}", used=2 * GIB, cache=0, kills=3)
    assert memory.is_nearly_full()


@pytest.mark.parametrize(
    ("version", "limit"), [(1, "9223372036854771712"), (2, "max"), (2, "garbage")]
)
def test_without_a_limit_there_is_nothing_to_watch(
    version: int, limit: str, tmp_path: Path
) -> None:
    root = cgroup(tmp_path, version=version, limit=limit, used=1, cache=0, kills=0)
    assert Memory.of_container(root) is None
    assert Memory.of_container(tmp_path / "nothing") is None


def test_the_message_names_the_limit_and_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(tmp_path, 2 * GIB)
    assert (
        advice("search", memory) == "out of memory at 2048 MiB; raise cluster.steps.search.memory"
    )
    monkeypatch.setenv("NAS_MEMORY", "2Gi")
    assert advice("search", memory) == "out of memory at 2Gi; raise cluster.steps.search.memory"


def test_a_kill_is_for_memory_only_when_the_kernel_counted_one(tmp_path: Path) -> None:
    """Finding N4: to Kubeflow both are exit code 1."""
    cgroup(tmp_path, version=2, limit=f"{GIB}", used=1, cache=0, kills=0)
    memory = Memory(tmp_path, GIB)

    def ended(child: str) -> End | None:
        command = [sys.executable, "-c", f"import os; events = {str(tmp_path)!r}; {child}"]
        return run_child(
            "search", command, environment=dict(os.environ), stop=Stop(), memory=memory
        )

    assert ended("os.kill(os.getpid(), 9)") == End("search", "crash", "killed by SIGKILL")
    counted = "open(events + '/memory.events', 'w').write('oom_kill 1'); os.kill(os.getpid(), 9)"
    found = ended(counted)
    assert found is not None
    assert found.kind == "memory"


def test_work_is_ended_before_the_kernel_ends_the_container(tmp_path: Path) -> None:
    """The kernel would kill all processes of the container, and none could report it."""
    cgroup(tmp_path, version=2, limit=f"{GIB}", used=1, cache=0, kills=0)
    memory = Memory(tmp_path, GIB)
    child = f"""
import pathlib, subprocess, time
below = subprocess.Popen(["sleep", "60"])
pathlib.Path({str(tmp_path)!r}, "below").write_text(str(below.pid))
pathlib.Path({str(tmp_path)!r}, "memory.current").write_text(str({GIB}))
time.sleep(60)
"""
    found = run_child(
        "search",
        [sys.executable, "-c", child],
        environment=dict(os.environ),
        stop=Stop(),
        memory=memory,
    )
    assert found is not None
    assert found.kind == "memory"
    below = int((tmp_path / "below").read_text())
    assert not Path(f"/proc/{below}").exists() or "Z" in Path(f"/proc/{below}/stat").read_text()
