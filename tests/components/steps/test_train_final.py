"""The step of the final training continues a try that was killed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from components.config.schema import dumps, parse
from components.steps import prepare_data, pretrain_controller, search, train_final
from components.steps.compiled import Compiled, run_key_of
from nascore import checkpoint
from nascore.errors import InputError
from nascore.pretrained.weight_files import FINAL_MODEL
from nascore.training import final_checkpoint
from nascore.training.losses import BatchLoss

SETTINGS: dict[str, Any] = {
    "method": "random",
    "data": {"source": "digits", "max_train": 200},
    "search": {
        "space": {"name": "chain", "num_layers": 2, "vocabulary": 4},
        "budget": {"children": 1},
        "child": {"epochs": 1, "max_steps": 1},
        "control": False,
    },
    "train": {"epochs": 4, "max_steps": 12, "batch_size": 32},
    "training": {"device": "cpu", "recipe": "quick", "ema": 0.3, "mixup": 0.2},
    "latency": {"runs": 20},
    "reference": [],
}


class Killed(BaseException):
    """The process ends in the middle of a step."""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the inputs of the step: prepared digits and the result of a search."""
    monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NAS_SPOOL_DIR", str(tmp_path / "spool"))
    dataset = tmp_path / "dataset"
    prepare_data.run(
        config=dumps(parse(SETTINGS)),
        compiled=Compiled(searches=True),
        parameters={},
        job_name="",
        dataset=dataset,
    )
    inputs = {"run_key": run_key_of(dataset), "dataset": dataset}
    result, weights = tmp_path / "search_result.json", tmp_path / "weights"
    pretrain_controller.run(**inputs, controller=tmp_path / "controller")
    search.run(**inputs, controller=tmp_path / "controller", search_result=result, weights=weights)
    return {**inputs, "search_result": result, "weights": weights}


@pytest.mark.slow
def test_the_next_try_trains_the_same_network_from_the_last_checkpoint(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    killed_at = 8
    real = BatchLoss.__call__

    def count(self: BatchLoss, *arguments: Any) -> tuple[Tensor, Tensor]:
        nonlocal calls
        if calls == killed_at:
            raise Killed
        calls += 1
        return real(self, *arguments)

    monkeypatch.setattr(BatchLoss, "__call__", count)
    monkeypatch.setattr(final_checkpoint, "EVERY_S", 0.0)
    state = tmp_path / "state"
    with pytest.raises(Killed):
        train_final.run(**given, model=tmp_path / "killed")
    assert list(state.rglob("final-training-*.ckpt"))

    calls, killed_at = 0, -1
    train_final.run(**given, model=tmp_path / "resumed")
    assert calls == 12 - 8
    assert not list(state.rglob("final-training-*.ckpt"))

    monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / "other"))
    train_final.run(**given, model=tmp_path / "whole")
    assert calls == 12 - 8 + 12
    found, wanted = (
        checkpoint.load(tmp_path / name / "weights.pt", FINAL_MODEL)[0]
        for name in ("resumed", "whole")
    )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    models = [
        json.loads((tmp_path / name / "model.json").read_text()) for name in ("resumed", "whole")
    ]
    for measured in ("train_accuracy", "valid_accuracy", "test_accuracy", "num_steps"):
        assert models[0][measured] == models[1][measured]


@pytest.mark.slow
def test_a_training_that_diverges_names_the_rate(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BatchLoss.__call__

    def diverging(self: BatchLoss, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, logits_BK = real(self, *arguments)
        return loss * float("nan"), logits_BK

    monkeypatch.setattr(BatchLoss, "__call__", diverging)
    with pytest.raises(InputError, match=r"diverged: loss is nan at step 0; set a lower") as caught:
        train_final.run(**given, model=tmp_path / "model")
    assert caught.value.problems[0].key == "train.lr"
    assert not (tmp_path / "model").exists()
