"""A pod: one container by podman, its folders, and the ways in which it dies."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.spec import PodSpec

_EMISSARY = Path(__file__).with_name("emissary.py")
_WITHIN = "/var/run/argo/emissary.py"
_ENGINE = ("podman", "--runtime", "runc")
# The machine may not raise limits, and podman tries to.
_ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=5000:5000")
# K: v2/compiler/argocompiler/container.go: emptyDirs that every task's container has; /tmp is ours.
_SCRATCH = ("minio", "s3", "gcs", ".local", ".cache", ".config", "tmp")
_CGROUPS = Path("/sys/fs/cgroup")


def missing_programs() -> str | None:
    """Return why no pod can run here; None when it can."""
    if shutil.which("podman") is None or shutil.which("runc") is None:
        return "podman and runc are not installed: apt-get install podman runc"
    return None if os.geteuid() == 0 else "pods run as other users, which needs root"


@functools.cache
def user_of(image: str) -> str:
    """Return UID:GID of an image, which counts where a pipeline names no user."""
    command = ["podman", "image", "inspect", "--format", "{{.Config.User}}", image]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a pod, by its id on the machine."""

    pid: int
    command: tuple[str, ...]


class Pod:
    """One try of a task.

    Attributes:
        task: name of the task in the pipeline, such as train-final.
        attempt: number of the try on the innermost level, from 0.
        log: what the container printed.
        deleted: deleted by others than Argo, which then takes its node for an Error.
        stopped: why the cluster ended it, if it did.
    """

    def __init__(self, name: str, task: str, attempt: int, spec: PodSpec, folder: Path) -> None:
        self.name, self.task, self.attempt, self.spec = name, task, attempt, spec
        self.folder, self.log = folder, folder / "log"
        self.deleted = False
        self.stopped: str | None = None
        self._podman: subprocess.Popen[bytes] | None = None
        user, _, group = (spec.user or user_of(spec.image)).partition(":")
        self.uid, self.gid = int(user), int(group or 0)
        for scratch in _SCRATCH:
            (folder / scratch).mkdir(parents=True)
            (folder / scratch).chmod(0o1777)
        self.log.touch()

    def path(self, within: str) -> Path:
        """Where a path within the container's emptyDirs is on the machine."""
        return self.folder / within.lstrip("/")

    # --- life -------------------------------------------------------------------------------

    def start(
        self, *, grace_s: float, claims: Mapping[str, Path], read_only: Mapping[str, Path]
    ) -> None:
        """Start the container.

        Args:
            grace_s: how long the work lives after SIGTERM (H2).
            claims: folder of each PersistentVolumeClaim, by name.
            read_only: folders that are mounted over the image's own, by path within.
        """
        for scratch in _SCRATCH:
            for path in (self.folder / scratch).rglob("*"):
                os.chown(path, self.uid, self.gid)  # the launcher is a process of the container
        mounts = {f"/{one}": self.folder / one for one in _SCRATCH}
        mounts |= {path: claims[name] for path, name in self.spec.claims.items()}
        for number, within in enumerate(self.spec.empty_dirs):
            mounts[within] = self.folder / f"empty-{number}"
            mounts[within].mkdir()
            mounts[within].chmod(0o777)
        options = ["--name", self.name, "--pidfile", str(self.folder / "pid"), "--rm"]
        options += ["--log-driver", "none", "--pull", "never", "--network", "host", *_ULIMITS]
        options += ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"]
        options += ["--security-opt", "no-new-privileges", "--user", f"{self.uid}:{self.gid}"]
        if self.spec.memory is not None:
            options += ["--memory", str(self.spec.memory)]
        for within, size in self.spec.memory_mounts.items():
            options += ["--tmpfs", f"{within}:rw,size={size},mode=1777"]
        options += [f"--volume={source}:{path}" for path, source in mounts.items()]
        fixed = {**read_only, _WITHIN: _EMISSARY}
        options += [f"--volume={source}:{path}:ro" for path, source in fixed.items()]
        for key in self.spec.env:
            options += ["--env", key]  # values by the environment: a command line is public
        image = self.spec.image
        entry = json.dumps(["python3", "-I", "-S", _WITHIN, str(grace_s)])
        with open(self.log, "ab") as log:
            self._podman = subprocess.Popen(
                [*_ENGINE, "run", *options, "--entrypoint", entry, image, *self.spec.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.env},
                cwd=self.folder,  # conmon leaves a file `oom` where it is started
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the container's exit code; None while it runs."""
        return None if self._podman is None else self._podman.poll()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    # --- the ways in which it dies ----------------------------------------------------------

    def delete(self) -> None:
        """A node is drained or preempted, or somebody deletes the pod: SIGTERM, then the end."""
        self.deleted = True
        self.terminate("deleted")

    def lose(self) -> None:
        """The node is gone: nothing within gets a signal."""
        self.deleted = True
        self.kill()

    def terminate(self, reason: str) -> None:
        """SIGTERM to the container; the emissary sees to its end."""
        if self.stopped is None:
            self.stopped = reason
            threading.Thread(target=self._pursue, args=(signal.SIGTERM, 2.0), daemon=True).start()

    def _pursue(self, number: int, pause_s: float) -> None:
        """Signal until it has ended: a container that is just starting misses signals."""
        for _ in range(15):
            self._signal(self._init(), number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self._podman is not None:
                    self._podman.wait(pause_s)
                    return
        self._pursue(signal.SIGKILL, 0.2)

    def kill(self) -> None:
        """SIGKILL for all that runs in it."""
        if self._podman is not None and self.poll() is None:
            self._pursue(signal.SIGKILL, 0.2)

    def kill_work(self) -> None:
        """kill -9 of the process that does the step's work, in whatever container it is."""
        work = self.work()
        assert work is not None, f"{self.task} has no process that works"
        self._signal(work.pid, signal.SIGKILL)

    def run_out_of_memory(self, *, seconds: float = 60) -> None:
        """Lower the limit to what is used until the kernel kills a process, then restore it.

        N4: only the process dies, as on cgroup v1 and with `singleProcessOOMKill`.
        """
        pid = self._init()
        assert pid is not None
        folder, limit_file, counter = _memory_cgroup(pid)
        limit = (folder / limit_file).read_text()
        before, deadline = _kills(folder / counter), time.monotonic() + seconds
        try:
            while _kills(folder / counter) == before and self.poll() is None:
                assert time.monotonic() < deadline, "the kernel killed nothing"
                usage = "memory.usage_in_bytes" if "limit" in limit_file else "memory.current"
                with contextlib.suppress(OSError):  # it cannot be lowered below what is in use
                    (folder / limit_file).write_text((folder / usage).read_text())
                time.sleep(0.02)
        finally:
            with contextlib.suppress(OSError):
                (folder / limit_file).write_text(limit)

    # --- its processes ----------------------------------------------------------------------

    def work(self) -> Process | None:
        """The process that runs kfp's executor; None before it is there, or between restarts."""
        found = [
            one
            for one in self.processes()
            if "--executor_input" in one.command and "components.supervisor" not in one.command
        ]
        return found[-1] if found else None

    def processes(self) -> list[Process]:
        """All processes of the container but PID 1, parents first."""
        known = {pid: parent for pid, parent in _parents()}
        found, level = [], [pid for pid in (self._init(),) if pid is not None]
        while level:
            level = [pid for pid, parent in known.items() if parent in level]
            found += level
        return [Process(pid, command) for pid in found if (command := _command(pid))]

    def _init(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "pid").read_text())
        return None

    def _signal(self, pid: int | None, number: int) -> None:
        if pid is not None and self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _parents() -> list[tuple[int, int]]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found.append((int(folder.name), int(fields[1])))
    return found


def _command(pid: int) -> tuple[str, ...]:
    with contextlib.suppress(OSError):
        return tuple(Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1])
    return ()


def _memory_cgroup(pid: int) -> tuple[Path, str, str]:
    """Folder, file of the limit and file of the count of kills, of cgroup v1 or v2."""
    groups = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    for _, controllers, path in groups:
        if controllers == "memory":
            folder = _CGROUPS / "memory" / path.lstrip("/")
            return folder, "memory.limit_in_bytes", "memory.oom_control"
    path = next(path for number, _, path in groups if number == "0")
    return _CGROUPS / path.lstrip("/"), "memory.max", "memory.events"


def _kills(file: Path) -> int:
    lines = (line.split() for line in file.read_text().splitlines())
    return next((int(value) for name, value in lines if name == "oom_kill"), 0)
