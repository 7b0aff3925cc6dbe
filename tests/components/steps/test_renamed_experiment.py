"""A deleted experiment with `tracking.deleted_experiment=rename`, on Kubeflow: one name in a run.

The steps are processes with the environment of a pod, whose events reach a real MLflow store.
"""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.config.schema import dumps, parse

FIRST = """
import sys
from pathlib import Path
from components.steps import prepare_data
from components.steps.compiled import Compiled

prepare_data.run(
    config=sys.argv[1],
    compiled=Compiled(),
    parameters={"experiment": "flowers", "settings": "data.max_train=300"},
    job_name="",
    dataset=Path(sys.argv[2]),
)
"""
NEXT = """
import json, sys
from pathlib import Path
from components.config.schema import loads
from components.steps.runtime import execute

dataset = Path(sys.argv[2])
config = loads((dataset / "config.json").read_text())
key = json.loads((dataset / "run.json").read_text())["run_key"]

def work(step):
    step.tracked.metrics({"accuracy": 0.5}, 1)
    (dataset.parent / "output").write_text("done")
    return {}

execute(
    "search", work, run_key=key, config=config, inputs={},
    outputs={"output": dataset.parent / "output"},
)
"""
EXIT = """
import sys
from components.steps import close_run

parameters = {"experiment": "flowers", "settings": ""}
close_run.run(config=sys.argv[1], parameters=parameters, status="FAILED", message="")
"""


@pytest.mark.slow
def test_all_steps_and_the_exit_task_use_the_new_name(store: str, tmp_path: Path) -> None:
    client = MlflowClient(store)
    for name in ("flowers", "flowers-2"):
        client.delete_experiment(client.create_experiment(name))
    tracking = {"uri": store, "deleted_experiment": "rename"}
    config = dumps(parse({"method": "random", "tracking": tracking}))
    run_id = str(uuid.uuid4())
    dataset = tmp_path / "dataset"
    environment = {
        **{name: value for name, value in os.environ.items() if name != "NAS_SPOOL_DIR"},
        "NAS_RUN_ID": run_id,
        "NAS_STATE_ROOT": str(tmp_path / "states"),
        "NAS_STATE_DIR": str(tmp_path / "states" / run_id),
    }
    (tmp_path / "states" / run_id).mkdir(parents=True)

    def call(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, config, str(dataset)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    shown = call(FIRST)
    assert "experiment flowers is deleted in MLflow; this run is tracked in flowers-3" in shown
    written = json.loads((dataset / "config.json").read_text())
    assert written["tracking"]["experiment"] == "flowers-3"
    call(NEXT)
    call(EXIT)
    found = client.get_experiment_by_name("flowers-3")
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    keys = {run.data.tags["nas.run_key"]: run.info.status for run in runs}
    key = run_id.replace("-", "")
    assert keys == {
        key: "FAILED",  # by the exit task, which knows the compiled configuration only
        f"{key}.prepare_data": "FINISHED",
        f"{key}.search": "FINISHED",
    }
    assert client.get_experiment_by_name("flowers").lifecycle_stage == "deleted"
