"""Standard networks next to methods whose networks are trained in their search: comparison, choice,
registration, and the retraining of the standard network that is champion."""

from pathlib import Path
from typing import Any

import local_runs
import pytest
from local_runs import Finished

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS: dict[str, Any] = {
    "seed": 3,
    "data.max_train": 300,
    "train.epochs": 1,  # far too few, so that a network that is trained for a time is better
    "train.max_steps": 6,
    "latency.runs": 20,
    "latency.warmup_runs": 2,
    "latency.threads": 1,
    "registry.model": "tiny",
    "reference": "[standard]",
}
METHODS: dict[str, dict[str, Any]] = {
    "instanas": {
        "search.budget.steps": 30,
        "search.space.stages": "[[8,1,1],[16,2,2]]",
        "search.options.table": "macs",
        "search.options.num_points": 2,
        "search.options.turn_steps": 4,
        "search.options.pretraining.epochs": 1,
        "search.options.reward.end": 0.9,
    },
    "nasib": {
        "search.budget.steps": 20,
        "search.space.search_channels": 4,
        "search.space.final_channels": 4,
        "search.child.max_steps": 4,
    },
    "enas": {
        "search.budget.steps": 20,
        "search.space.search_channels": 4,
        "search.space.final_channels": 4,
        "search.options.num_candidates": 8,
        "search.options.controller_every": 4,
        "search.child.epochs": 1,
        "search.child.max_steps": 4,
    },
}


def run(home: Path, method: str, out: str, *arguments: str, **changes: Any) -> Finished:
    settings = {**SETTINGS, "method": method, **METHODS[method], **changes}
    return local_runs.finished(home, out, *arguments, settings=settings)


@pytest.mark.parametrize("method", METHODS)
def test_the_better_standard_network_is_registered_and_trained_again(
    method: str, tmp_path: Path
) -> None:
    finished = run(tmp_path, method, "out", "run")
    result = finished.result
    (row,) = result["references"]
    difference = result["test_accuracy"] - row["test_accuracy"]
    assert row["difference"] == pytest.approx(difference)
    assert 0 <= row["p_value"] <= 1
    assert min(row["latency_ms"], result["found"]["latency_ms"]) > 0
    # The network of the control of InstaNAS starts from the weights of its own search.
    assert (result["control"]["final"] is None) == (method == "instanas")

    assert result["recommendation"]["ship"] == result["shipped"]["name"] == "standard"
    assert result["promotion"]["alias"] == "champion"
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert "The registered model is <strong>standard</strong>" in page
    card = (finished.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "This model is `standard` and not the found network." in card

    changes = {"reference": "null", "data.max_train": 320, "retrain.max_drift": 10}
    again = run(tmp_path, method, "again", "retrain", "--model", "tiny", **changes)
    assert "its architecture is trained on the new data" in again.stdout
    assert again.result["genotype"]["space"] == "reference-standard"
    assert again.result["num_params"] == row["params"]
    assert again.result["recommendation"]["ship"] == "standard"
