"""`nas run` with standard networks to compare, on real digits: what it trains, says and registers;
and a retraining of a standard network that is champion."""

import json
from pathlib import Path
from typing import Any

import local_runs
import pytest
import torch
from local_runs import Finished

from components.export.weights import read_network
from nascore.reference.network_kind import ReferenceNetwork

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = {
    "method": "random",
    "seed": 3,
    "data.max_train": 300,
    "search.space.num_stages": 1,
    "search.space.channels": 8,
    "search.budget.children": 2,
    "search.child.epochs": 1,
    "train.epochs": 1,  # far too few, so that networks that are trained for a time are better
    "latency.runs": 20,
    "latency.warmup_runs": 2,
    "registry.model": "tiny",
}
NAMES = ["standard", "squeezenet1_1"]


def run(home: Path, out: str, *arguments: str, **changes: Any) -> Finished:
    return local_runs.finished(home, out, *arguments, settings={**SETTINGS, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    home = tmp_path_factory.mktemp("home")
    changes = {
        "promote.export_to": home / "exported",
        "reference_share": 2.0,
        "training.ensemble": 2,
    }
    return run(home, "out", "run", reference=json.dumps(NAMES), **changes)


@pytest.fixture(scope="module")
def client(finished: Finished) -> Any:
    import mlflow

    mlflow.set_tracking_uri(finished.store)  # `load_table` asks the one of the process
    return mlflow.MlflowClient(finished.store, finished.store)


def test_each_named_network_is_in_the_result_with_a_paired_test(finished: Finished) -> None:
    result = finished.result
    assert [row["name"] for row in result["references"]] == NAMES
    for row in result["references"]:
        difference = result["test_accuracy"] - row["test_accuracy"]
        assert row["difference"] == pytest.approx(difference)
        assert 0 <= row["p_value"] <= 1
        assert row["latency_ms"] > 0
        assert row["params"] > 1000
        assert row["epochs"] > 0
    assert result["found"]["test_accuracy"] == pytest.approx(result["test_accuracy"])
    assert result["references_left_out"] == []


def test_they_are_trained_for_the_time_of_search_and_final_training(finished: Finished) -> None:
    result = finished.result
    cost = result["search"]["seconds"] + result["training"]["seconds"]
    for row in result["references"]:
        # On a busy machine a step is measured as slower, or becomes slower, than it is in the mean.
        assert 0.5 * cost < row["seconds"] < 4 * cost, "twice the cost by reference_share"


def test_the_recommended_network_is_registered_and_says_so(finished: Finished, client: Any) -> None:
    result = finished.result
    assert result["recommendation"]["ship"] == "standard"
    shipped, row = result["shipped"], result["references"][0]
    assert shipped["name"] == "standard"
    assert shipped["test_accuracy"] == row["test_accuracy"]
    assert shipped["num_params"] == row["params"]
    assert shipped["genotype"]["space"] == "reference-standard" != result["genotype"]["space"]
    version = client.get_model_version("tiny", "1")
    assert version.tags["nas.network"] == "standard"
    assert version.tags["nas.test_accuracy"] == f"{row['test_accuracy']:.6f}"
    assert "This model is `standard` and not the found network." in version.description
    metrics = client.get_run(result["tracking_run_id"]).data.metrics
    assert metrics["test_accuracy"] == pytest.approx(row["test_accuracy"])
    assert metrics["reference.standard.test_accuracy"] == pytest.approx(row["test_accuracy"])
    assert metrics["reference.squeezenet1_1.params"] == result["references"][1]["params"]
    experiment = client.get_run(result["tracking_run_id"]).info.experiment_id
    table = client.load_table(experiment, "references.json", run_ids=[result["tracking_run_id"]])
    assert {"found", *NAMES} <= set(table["name"])


def test_the_terminal_and_the_page_show_them(finished: Finished) -> None:
    row = finished.result["references"][1]
    assert f"squeezenet1_1   {row['test_accuracy']:.4f} (found " in finished.stdout
    assert finished.result["recommendation"]["why"] in " ".join(finished.stdout.split())
    assert "the network standard and not the found one" in finished.stdout
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert "The registered model is <strong>standard</strong>" in page
    assert f"{100 * row['test_accuracy']:.2f}%" in page


def test_the_ensemble_of_finalists_is_shown_next_to_a_registered_standard_network(
    finished: Finished, client: Any
) -> None:
    ensemble = finished.result["ensemble"]
    assert len(ensemble["members"]) == 2
    accuracy = f"{100 * ensemble['test_accuracy']:.2f}%"
    statement = f"The ensemble of 2 finalists has {accuracy} test accuracy"
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    card = (finished.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    run = client.get_run(finished.result["tracking_run_id"])
    for text in (page, card, run.data.tags["mlflow.note.content"]):
        assert statement in text
    assert f"ensemble        {ensemble['test_accuracy']:.4f} (found " in finished.stdout
    assert run.data.metrics["ensemble_test_accuracy"] == ensemble["test_accuracy"]
    assert run.data.metrics["ensemble_p_value"] == ensemble["p_value"]


def test_the_exported_weights_are_those_of_the_registered_network(finished: Finished) -> None:
    (folder,) = (path for path in (finished.folder.parent / "exported").iterdir() if path.is_dir())
    network = read_network(folder)
    assert isinstance(network, ReferenceNetwork)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    size = sum(weights.numel() for weights in network.parameters())
    assert size == finished.result["references"][0]["params"]
    latency = json.loads((folder / "latency.json").read_text())
    assert latency["p50_ms"] == finished.result["references"][0]["latency_ms"]


def test_a_champion_that_is_a_standard_network_is_retrained(finished: Finished) -> None:
    changes = {"data.max_train": 320, "retrain.max_drift": 10}
    retrained = run(finished.folder.parent, "again", "retrain", "--model", "tiny", **changes)
    result = retrained.result
    assert result["genotype"]["space"] == "reference-standard"
    assert result["num_params"] == finished.result["references"][0]["params"]
    assert result["architecture"]["text"].startswith("standard network: ")
    assert result["references"] == []
    assert result["recommendation"]["ship"] == "standard"


def test_a_name_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    settings = {**SETTINGS, "reference": "[inception_v3]"}
    ended = local_runs.nas(tmp_path, "run", "--out", "out", settings=settings)
    assert ended.returncode == 2
    assert "reference = inception_v3" in ended.stderr
    assert "networks that fit: standard, alexnet" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()
