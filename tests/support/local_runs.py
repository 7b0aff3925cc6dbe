"""Runs of `nas` in a process of its own, as a user starts them, and what they leave."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finished:
    """A run that ended well."""

    folder: Path
    stdout: str
    result: dict[str, Any]

    @property
    def exported(self) -> Path:
        """Folder of the run below `promote.export_to`."""
        return Path(self.result["exported_to"])

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder.parent}/runs/mlflow.db"


def nas(
    home: Path, *arguments: str, settings: Mapping[str, Any], timeout_s: float = 400
) -> subprocess.CompletedProcess[str]:
    """Run `nas` with one thread in a folder; each setting is an option `--set`."""
    given = [f"--set={key}={value}" for key, value in settings.items()]
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments, *given],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def finished(home: Path, out: str, *arguments: str, settings: Mapping[str, Any]) -> Finished:
    """Return a run whose output is in the folder `out` of `home`."""
    ended = nas(home, *arguments, "--out", out, settings=settings)
    assert ended.returncode == 0, ended.stderr
    return Finished(home / out, ended.stdout, json.loads((home / out / "result.json").read_text()))
