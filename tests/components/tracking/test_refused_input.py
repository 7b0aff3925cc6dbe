"""Wrong input makes one MLflow run for the pipeline and one for the step, however often tried."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

PREPARE = """
import sys
from pathlib import Path
from components.steps import prepare_data
from components.steps.compiled import Compiled

prepare_data.run(
    config=sys.argv[1],
    compiled=Compiled(searches=True),
    parameters={},
    job_name="a job",
    dataset=Path("dataset"),
)
"""
Runs = Callable[..., dict]


def attempt(folder: Path, uri: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The first step in a pod of its own."""
    folder.mkdir(exist_ok=True)
    config = {"data": {"source": "npz:/nowhere/x.npz"}, "tracking": {"uri": uri}}
    return subprocess.run(
        [sys.executable, "-c", PREPARE, json.dumps(config)],
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("has_volume", [False, True])
def test_five_tries_of_a_refused_step_make_one_run(
    tmp_path: Path, mlflow_server: MlflowServer, runs_by_key: Runs, has_volume: bool
) -> None:
    run_id = str(uuid.uuid4())
    variables = {"NAS_RUN_ID": run_id, "NAS_RESTARTS": "2"}
    for number in range(5):
        folder = tmp_path / f"pod-{number}"
        state = tmp_path if has_volume else folder
        ended = attempt(
            folder,
            mlflow_server.uri,
            {**variables, "NAS_STATE_DIR": str(state / "state"), "TMPDIR": str(tmp_path)},
        )
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        assert "data.source" in ended.stderr
    key = run_id.replace("-", "")
    found = {k: v for k, v in runs_by_key(mlflow_server.uri).items() if k.startswith(key)}
    assert {k: len(runs) for k, runs in found.items()} == {key: 1, f"{key}.prepare_data": 1}
    for (run,) in found.values():
        assert run.info.status == "FAILED"
        assert run.data.tags["nas.end_kind"] == "input"
        assert "data.source" in run.data.tags["nas.end_reason"]
    assert found[key][0].data.tags["nas.kfp_run_id"] == run_id
