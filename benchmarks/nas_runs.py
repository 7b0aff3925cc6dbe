"""Calls of the command `nas` by benchmarks."""

import os
import subprocess
import sys


def nas(*arguments: str) -> str:
    """Run a command on one thread and return its standard output.

    Raises:
        SystemExit: it failed; with its output.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"nas {' '.join(arguments)} failed:\n{done.stderr}{done.stdout}")
    return done.stdout
