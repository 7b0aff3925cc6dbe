"""Weights of a run: checked by the first step, read again before the final training."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transfer_runs import RunsCode, check, config_of, context_of, message, result_of

from components.steps.transfer import with_transfer
from nascore.data.batches import Splits
from nascore.errors import InputError
from nascore.files import sha256_of
from nascore.training.final_model import FinalModel, train_from_scratch


def test_a_final_training_starts_from_weights_that_were_trained_here(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    final.save(tmp_path / "model")
    path = tmp_path / "model" / "weights.pt"
    config, said = check(config_of(weights=str(path)), splits, dataset)
    assert said == [f"training.weights: {path} has SHA-256 {sha256_of(path)}"]
    context = with_transfer(
        context_of(config, splits, tmp_path), config, dataset, state=tmp_path, say=said.append
    )
    # No update has an effect at this rate.
    still = context.final.model_copy(update={"lr": 1e-12, "min_lr": 0.0, "weight_decay": 0.0})
    again = train_from_scratch(dataclasses.replace(context, final=still), result_of(context))
    for name, value in final.network.named_parameters():
        assert torch.allclose(again.network.get_parameter(name), value, atol=1e-6), name
    again.save(tmp_path / "again")
    stored = json.loads((tmp_path / "again" / "model.json").read_text())["transfer"]["weights"]
    assert (stored["sha256"], stored["share"]) == (sha256_of(path), 1.0)
    assert (stored["left_out"], stored["freeze_epochs"]) == ({}, 0)
    assert FinalModel.load(tmp_path / "again", context.space).transfer == again.transfer


def test_weights_that_fit_no_network_of_the_space_are_refused_before_the_search(
    splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    torch.save(nn.Sequential(nn.Conv2d(5, 7, 9)).state_dict(), tmp_path / "other.pt")
    found = message(config_of(weights=str(tmp_path / "other.pt")), splits, dataset)
    assert "is of another architecture: 0.0% of the parameters of ResidualNetwork fit" in found
    assert "not taken from the file: 0.weight 7x5x9x9" in found


def test_weights_that_were_replaced_after_the_first_step_are_refused(
    final: FinalModel, splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    final.save(tmp_path / "model")
    path = tmp_path / "model" / "weights.pt"
    config, _ = check(config_of(weights=str(path)), splits, dataset)
    torch.save(final.network.state_dict(), path)
    with pytest.raises(InputError, match="it was replaced since"):
        with_transfer(
            context_of(config, splits, tmp_path), config, dataset, state=tmp_path, say=print
        )


def test_all_problems_are_in_one_message_and_no_code_runs(
    splits: Splits, dataset: Path, tmp_path: Path
) -> None:
    torch.save({"w": RunsCode(tmp_path / "ran")}, tmp_path / "code.pt")
    config = config_of(weights=str(tmp_path / "code.pt"), teacher=str(tmp_path / "none.pt2"))
    found = message(config, splits, dataset)
    assert "is a pickle that contains code or objects (posix.system)" in found
    assert "training.teacher = " in found
    assert "there is no such file or folder" in found
    assert not (tmp_path / "ran").exists()
