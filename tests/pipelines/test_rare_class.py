"""`nas run` on images with five defects in two hundred: the recall of the rare class is shown."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rare_class import make_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = {
    "search.objective": "balanced_accuracy",
    "search.space.num_stages": 1,
    "search.child.epochs": 2,
    "search.child.batch_size": 32,
    "train.epochs": 8,
    "train.batch_size": 32,
    "latency.runs": 20,
    "latency.warmup_runs": 2,
}


def test_report_and_mlflow_show_the_recall_of_the_rare_class(tmp_path: Path) -> None:
    make_data(tmp_path / "defects.npz", seed=1)
    start = [sys.executable, "-m", "pipelines.cli", "run", "--method=random", "--out=out"]
    data = ["--data=npz:defects.npz", "--budget=2 children"]
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    ended = subprocess.run(
        [*start, *data, *settings],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads((tmp_path / "out/result.json").read_text())
    rare = result["per_class"]["defect"]
    assert rare["support"] == 200
    assert 0 < rare["recall"] <= 1
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    metrics = client.get_run(result["tracking_run_id"]).data.metrics
    assert metrics["test_recall/defect"] == pytest.approx(rare["recall"])
    page = (tmp_path / "out/report.html").read_text()
    rows = re.findall(r'<th scope="row">defect</th><td class="num">([^<]*)</td>', page)
    assert rows[0] == f"{100 * rare['recall']:.2f}%"
