"""The built image in an engine's store, and containers of it as clusters run them."""

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Image:
    """An image by its name.

    Attributes:
        engine: podman or docker, with its own options.
    """

    name: str
    engine: tuple[str, ...]

    def run(
        self,
        *command: str,
        user: str = "10001:10001",
        read_only: bool = True,
        options: tuple[str, ...] = (),
        timeout_s: float = 120,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a restricted name space would.

        Args:
            user: `UID:GID`.
            read_only: the root; /tmp is a folder of its own, as each step has.
            options: further ones of `podman run`.
            timeout_s: after which the test fails.
        """
        usual = ["--network", "none", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
        usual += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=5000:5000"]  # never raised
        usual += ["--user", user, "--memory", "4g", "--pull", "never"]
        if read_only:
            usual += ["--read-only", "--tmpfs", "/tmp:rw,mode=1777"]
        if "--name" not in options:
            usual.append("--rm")
        return subprocess.run(
            [*self.engine, "run", *usual, *options, self.name, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def python(self, code: str, **options: Any) -> str:
        """Return what Python code printed in a container; it may complain of nothing."""
        done = self.run("python3", "-c", code, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def ask(self, *command: str) -> str:
        """Return the engine's own answer."""
        return subprocess.run(
            [*self.engine, *command], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def inspect(self) -> dict[str, Any]:
        """Return what the engine knows of the image."""
        found: dict[str, Any] = json.loads(self.ask("image", "inspect", self.name))[0]
        return found


def engine_command() -> tuple[str, ...]:
    """The engine that is there; with runc where it is, since crun knows no hybrid cgroups."""
    given = shlex.split(os.environ.get("NAS_TEST_ENGINE", ""))
    if not given:
        given = [one for one in ("podman", "docker") if shutil.which(one)][:1]
    if [Path(one).name for one in given] == ["podman"] and shutil.which("runc", path=_PATH):
        given += ["--runtime", "runc"]
    return tuple(given)


def missing(image: Image) -> str | None:
    """Return why no container of the image can run here; None when it can."""
    if not image.engine:
        return "there is neither podman nor docker"
    command = [*image.engine, "image", "inspect", image.name]
    known = subprocess.run(command, capture_output=True, check=False)
    return f"there is no image {image.name}: make image" if known.returncode else None
