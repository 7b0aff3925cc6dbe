"""Calls of `nas doctor` and `nas run` in one state of the world, and what both of them say."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

TINY = (
    "method=random",
    "seed=3",
    "data.max_train=300",
    "search.space.num_stages=1",
    "search.budget.children=2",
    "search.child.epochs=1",
    "train.epochs=1",
    "latency.runs=20",
    "latency.warmup_runs=2",
    "registry.model=tiny",
)
"""Settings of a run of half a minute."""
_SOON_S = 15


def with_mounts(script: str) -> tuple[str, ...]:
    """Return the words before a command that gets mounts which no other process sees.

    Args:
        script: of the shell, as root, before the command.
    """
    namespace = ("unshare", "--mount")
    probe = subprocess.run(
        [*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"mounts are not allowed here: {probe.stderr.decode().strip()}")
    return (*namespace, "sh", "-ec", f'{script}\nexec "$@"', "sh")


def soon_s() -> float:
    """Return the seconds to a message; more on a machine with more processes than cores."""
    return _SOON_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def together(*settings: str) -> tuple[str, ...]:
    """Return settings of which a later one replaces an earlier one of the same key."""
    values = dict(setting.partition("=")[::2] for setting in settings)
    return tuple(f"{key}={value}" for key, value in values.items())


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        seconds: its duration.
    """

    status: int
    out: str
    err: str
    seconds: float

    @property
    def message(self) -> str:
        """The problem that it reports, in one line."""
        return " ".join(line.strip() for line in self.err.splitlines()[1:])


def nas(
    *arguments: str,
    folder: Path,
    settings: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    before: tuple[str, ...] = (),
) -> Ended:
    """Call `nas` in a folder.

    Args:
        arguments: of the command.
        folder: where it is called.
        settings: values of `--set`.
        environment: whole environment; None for that of this process.
        before: words before the command, such as `unshare -m`.
    """
    start = time.monotonic()
    given = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(
        [*before, sys.executable, "-m", "pipelines.cli", *arguments, *given],
        cwd=folder,
        env=dict(os.environ if environment is None else environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=400,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - start)


def examined(
    check: str,
    *,
    folder: Path,
    settings: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    before: tuple[str, ...] = (),
) -> str:
    """Return status and detail of one check of `nas doctor`, as a line."""
    rows = doctor_rows(folder=folder, settings=settings, environment=environment, before=before)
    return f"{rows[check]['status']} {check}: {rows[check]['detail']}"


def doctor_rows(
    *,
    folder: Path,
    settings: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    before: tuple[str, ...] = (),
) -> dict[str, dict[str, str]]:
    """Return the rows of `nas doctor --json` by their check."""
    done = nas(
        "doctor", "--json", folder=folder, settings=settings, environment=environment, before=before
    )
    assert done.out, done.err
    return {row["check"]: row for row in json.loads(done.out)}
