"""Runs with `promote.int8_max_drop` on real digits: what they measure, write and log."""

import json
from pathlib import Path
from typing import Any

import local_runs
import numpy as np
import pytest
import torch
from local_runs import Finished

from components.config.schema import loads
from nascore.data.batches import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = {
    "method": "random",
    "seed": 3,
    "data.max_train": 300,
    "search.space.num_stages": 1,
    "search.space.channels": 8,
    "search.budget.children": 2,
    "search.child.epochs": 1,
    "train.epochs": 10,
    "latency.runs": 20,
    "latency.warmup_runs": 2,
    "registry.model": "tiny",
    "reference": "[]",
    "promote.int8_max_drop": 0.2,
}


def run(home: Path, out: str, command: str, **changes: Any) -> Finished:
    settings = {**SETTINGS, "promote.export_to": home / "exported", **changes}
    return local_runs.finished(home, out, command, settings=settings)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def finished(home: Path) -> Finished:
    return run(home, "out", "run")


def test_the_result_has_the_measurements_of_both_networks(finished: Finished) -> None:
    result = finished.result
    int8 = result["int8"]
    assert int8["offered"], int8["why"]
    assert int8["kind"] in ("static", "dynamic")
    assert int8["valid_drop"] == result["valid_score"] - int8["valid_score"] <= 0.2
    assert 0 < int8["latency_ms"] < int8["fp32_latency_ms"]
    assert int8["fp32_bytes"] > 4 * result["num_params"]
    assert result["model_uri"] == "models:/tiny/1", "the champion is the network in fp32"


def test_the_exported_file_has_the_test_accuracy_of_the_result(finished: Finished) -> None:
    import onnxruntime

    path = finished.exported / "model-int8.onnx"
    assert path.stat().st_size == finished.result["int8"]["bytes"]
    manifest = json.loads((finished.exported / "manifest.json").read_text())
    assert path.name in manifest["sha256"]
    assert loads((finished.folder / "config.json").read_text()).promote.int8_max_drop == 0.2
    dataset = finished.folder / "state" / "prepare_data" / "outputs" / "dataset"
    test = load(dataset, torch.device("cpu")).test
    session = onnxruntime.InferenceSession(path)
    pixels = test.pixels_at(range(test.num_images)).float().numpy()
    (logits,) = session.run(["logits"], {"pixels": pixels})
    accuracy = float(np.mean(logits.argmax(1) == test.labels.numpy()))
    assert accuracy == pytest.approx(finished.result["int8"]["test_accuracy"], abs=1e-9)


def test_card_page_and_terminal_show_it(finished: Finished) -> None:
    int8 = finished.result["int8"]
    card = (finished.exported / "MODEL_CARD.md").read_text(encoding="utf-8")
    part = card.partition("\n## Network in int8\n")[2].partition("\n## ")[0]
    assert int8["why"] in part
    assert f"{int8['bytes']:,} |" in part
    assert "onnxruntime.InferenceSession" in part
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert int8["why"] in page
    assert f"int8, {int8['kind']} <span" in page
    assert int8["why"] in " ".join(finished.stdout.split())


def test_mlflow_has_the_file_and_the_numbers(finished: Finished) -> None:
    import mlflow

    store = f"sqlite:///{finished.folder.parent}/runs/mlflow.db"
    client = mlflow.MlflowClient(store, store)
    run_id = finished.result["tracking_run_id"]
    metrics = client.get_run(run_id).data.metrics
    for key in ("test_accuracy", "valid_drop", "latency_ms", "fp32_latency_ms", "bytes"):
        assert metrics[f"int8.{key}"] == pytest.approx(finished.result["int8"][key])
    assert metrics["int8.offered"] == 1
    (logged,) = client.list_artifacts(run_id, "int8")
    assert logged.path == "int8/model-int8.onnx"
    assert logged.file_size == finished.result["int8"]["bytes"]
    assert "## Network in int8" in client.get_model_version("tiny", "1").description


def test_a_retraining_makes_it_and_a_network_that_loses_too_much_is_not_offered(
    finished: Finished, home: Path
) -> None:
    retrained = run(home, "again", "retrain", **{"promote.int8_max_drop": 0.0, "train.epochs": 2})
    int8 = retrained.result["int8"]
    assert int8["candidates"]
    assert (retrained.exported / "model-int8.onnx").exists() == int8["offered"]
    assert int8["offered"] == (min(one["valid_drop"] for one in int8["candidates"]) <= 0)
