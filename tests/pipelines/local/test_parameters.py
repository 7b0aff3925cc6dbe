"""A run of a compiled pipeline that gets nothing but two parameters, as from KFP's form."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.config.schema import Config
from pipelines.config import resolve
from pipelines.definitions.search import compile_search

pytestmark = pytest.mark.slow

RUN = """
import json, sys
from pathlib import Path
from pipelines.local import run

if __name__ == "__main__":
    run.run_compiled(Path(sys.argv[1]), **json.loads(sys.argv[2]))
"""


def compiled(folder: Path) -> Config:
    """The default method with its preset, on little data."""
    settings = (
        f"tracking.uri=sqlite:///{folder}/mlflow.db",
        *("data.max_train=200", "search.child={epochs: 1, max_steps: 3}"),
        "train={epochs: 1, max_steps: 3}",
    )
    return resolve(None, None, settings)


def start(folder: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    compile_search(compiled(folder), folder / "pipeline.yaml", for_cluster=False)
    program = folder / "run.py"
    program.write_text(RUN)
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, str(program), str(folder), json.dumps(parameters)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        timeout=280,
    )


def metadata(folder: Path, step: str, output: str) -> dict[str, Any]:
    """What the executor of a step wrote about an output, for KFP's pages."""
    (written,) = (folder / "pipeline").glob(f"*/{step}/executor_output.json")
    (artifact,) = json.loads(written.read_text())["artifacts"][output]["artifacts"]
    found: dict[str, Any] = artifact["metadata"]
    return found


def test_two_parameters_are_enough_for_a_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = start(out, method="random", budget="8 children")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    result = json.loads((out / "result.json").read_text())
    assert (result["method"], result["num_children"]) == ("random", 8)
    log = ended.stdout + ended.stderr
    for step, output in (("search", "search_result"), ("promote", "overview")):
        assert f"{step} made " in log
        assert f"{output} in {out / 'pipeline'}" in log

    numbers = metadata(out, "promote", "run_metrics")
    assert numbers["test_accuracy"] == result["test_accuracy"]
    assert numbers["test_accuracy_low"] < numbers["test_accuracy"] < numbers["test_accuracy_high"]
    assert numbers["gain_over_random"] == result["verdict"]["difference"]
    assert numbers.keys() == {
        *("test_accuracy", "test_accuracy_low", "test_accuracy_high", "latency_p50_ms"),
        *("num_params", "search_seconds", "gain_over_random"),
    }
    classes = metadata(out, "train-final", "class_figures")
    assert len(classes["confusionMatrix"]["rows"]) == 10
    assert len(classes["confidenceMetrics"]) > 2

    overview = (out / "state" / "promote" / "outputs" / "overview").read_text()
    assert overview.startswith("# Test accuracy ")
    for fact in (result["verdict"]["statement"], "random, seed 0", "8 children", "champion"):
        assert fact in overview
    assert result["tracking_run_id"] in overview


def test_a_wrong_parameter_ends_the_run_at_its_first_step(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = start(out, budget="30x", seed="one", data="npz:/nowhere.npz", settings="sede=1")
    assert ended.returncode != 0
    (event,) = (
        event
        for event in map(json.loads, (out / "progress.jsonl").read_text().splitlines())
        if event["event"] == "input_error"
    )
    assert event["step"] == "prepare_data"
    found = {problem["key"]: problem["value"] for problem in event["problems"]}
    assert found == {
        "budget": "30x (pipeline parameter)",
        "seed": "one (pipeline parameter)",
        "sede": "1 (in pipeline parameter settings)",
    }
    assert not (out / "mlflow.db").exists()
