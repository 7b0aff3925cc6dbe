"""`nas run` of a method with shared weights, which two processes train together."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands.diagnose import history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = {
    "method": "memory-enas",
    "data.max_train": 300,
    "search.workers": 2,
    "search.budget.steps": 40,
    "search.space.search_channels": 4,
    "search.space.final_channels": 4,
    "search.options.num_candidates": 8,
    "search.options.controller_every": 4,
    "search.options.memory.pretrain_steps": 5,
    "search.child.epochs": 1,
    "search.child.max_steps": 4,
    "train.epochs": 1,
    "train.max_steps": 8,
    "latency.runs": 20,
    "latency.warmup_runs": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "run", *settings, f"--out={home / 'out'}"],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return home / "out"


def metrics(folder: Path, name: str) -> list[tuple[int, float]]:
    """As the search has told its tracking."""
    found: dict[int, float] = {}
    for path in sorted((folder / "spool" / "events").iterdir()):
        for line in path.read_text().splitlines():
            event: dict[str, Any] = json.loads(line)
            if event["op"] == "metrics" and name in event["values"]:
                found[event["step"]] = event["values"][name]
    return sorted(found.items())


def test_two_processes_have_trained_each_of_the_two_networks(folder: Path) -> None:
    for arm in ("method", "control"):
        assert metrics(folder, f"weights/{arm}/processes") == [(0, 2.0)]


def test_it_ends_with_a_model_and_a_verdict_on_the_finalists(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    assert result["num_children"] == result["control"]["num_children"] == 5
    assert result["control"]["method"] == "random-ws"
    assert result["verdict"]["outcome"] in ("better", "not better", "undecided")
    assert "random search with shared weights" in result["verdict"]["statement"]
    assert re.fullmatch(r"models:/digits-[0-9a-f]{6}/1", result["model_uri"])


def test_what_the_controller_remembers_is_followed(folder: Path) -> None:
    looks = history(folder)["diagnosis/spearman_edit"]
    assert [update for update, _ in looks] == [0]
    assert len(history(folder)["policy/method/entropy"]) == 10
