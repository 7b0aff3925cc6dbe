"""A retraining that reuses an architecture has the method of the search that found it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

TINY = {
    "data.max_train": 300,
    "search.space.num_stages": 1,
    "search.budget.children": 1,
    "search.child.epochs": 1,
    "train.epochs": 1,
    "latency.runs": 20,
    "latency.warmup_runs": 2,
    "registry.model": "net",
}


def nas(folder: Path, command: str, method: str) -> dict[str, Any]:
    """Run a pipeline in a folder; return its result."""
    options = [f"--set={key}={value}" for key, value in TINY.items()] + [f"--out={command}"]
    subprocess.run(
        [sys.executable, "-m", "pipelines.cli", command, f"--method={method}", *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=400,
        check=True,
    )
    result: dict[str, Any] = json.loads((folder / command / "result.json").read_text())
    return result


@pytest.mark.slow
def test_the_lineage_of_a_reused_architecture_is_that_of_its_search(tmp_path: Path) -> None:
    found = nas(tmp_path, "run", "nases")
    assert (found["method"], found["search"]["reused_version"]) == ("nases", None)
    result = nas(tmp_path, "retrain", "random")
    assert json.loads((tmp_path / "retrain" / "review.json").read_text())["plan"] == "reuse"
    assert result["genotype"] == found["genotype"]
    assert (result["method"], result["search"]["method"]) == ("nases", "nases")
    assert result["search"]["reused_version"] == "1"
    client = MlflowClient(result["tracking_uri"], registry_uri=result["tracking_uri"])
    version = client.get_model_version("net", "2")
    tags = client.get_run(result["tracking_run_id"]).data.tags
    assert version.tags["nas.method"] == tags["nas.method"] == "nases"
    assert "architecture of version 1 was reused. Its search: method `nases`" in version.description
    note = tags["mlflow.note.content"]
    assert "the architecture of version 1 was reused, which a search with **nases** found" in note
    experiment = client.get_run(result["tracking_run_id"]).info.experiment_id
    for run in client.search_runs([experiment]):
        text = run.data.tags.get("mlflow.note.content", "")
        assert "**random**" not in text, run.info.run_name
