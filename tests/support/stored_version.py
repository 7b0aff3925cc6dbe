"""A version that was uploaded to the stand-in for KFP, run by kfp's own local runner."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

SMALL = (
    *("--set=data.max_train=200", "--set=search.child={epochs: 1, max_steps: 3}"),
    "--set=train={epochs: 1, max_steps: 3}",
)
_RUN = """
import json, sys
from pathlib import Path
from pipelines.local import run

if __name__ == "__main__":
    run.run_compiled(Path(sys.argv[1]), **json.loads(sys.argv[2]))
"""
_ROOT = Path(__file__).parents[2]


def execute(spec: dict[str, Any], parameters: dict[str, str], folder: Path) -> Any:
    """Run what the server has stored, with parameters, in processes of this machine.

    Returns:
        The content of `result.json`.
    """
    pipeline = copy.deepcopy(spec["pipeline_spec"])
    for executor in pipeline["deploymentSpec"]["executors"].values():
        executor["container"].pop("env", None)  # for the supervisor of a pod, which is not here
    documents = [pipeline, spec["platform_spec"]]
    (folder / "pipeline.yaml").write_text(yaml.safe_dump_all(documents))
    (folder / "run.py").write_text(_RUN)
    ended = subprocess.run(
        [sys.executable, str(folder / "run.py"), str(folder), json.dumps(parameters)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"},
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-3000:]
    return json.loads((folder / "result.json").read_text())
