"""Rates by layer and freezing, for every optimiser; a training with them continues exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from nascore.config import TrainingConfig
from nascore.data.batches import Splits, load
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.training.fine_tuning import FineTuning, layer_factors
from nascore.training.loop import TrainingStopped, train
from nascore.training.resumable import TrainingCheckpoint

OPTIMISERS = {"sgd": 0.05, "adamw": 0.002, "muon": 0.002}
TAKEN = ("0", "1")


@pytest.fixture(scope="module")
def splits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))


def network_of() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Flatten(),
            nn.Linear(8 * 64, 10),
        )


def trained(
    splits: Splits, optimiser: str, *, freeze_epochs: int = 0, lr_decay: float = 1.0, **more: Any
) -> nn.Module:
    network = network_of()
    settings = {"epochs": 2, "min_lr": 0.0, "max_steps": None} | more.pop("settings", {})
    config = TrainingConfig(optimizer=optimiser, lr=OPTIMISERS[optimiser], **settings)
    tuning = FineTuning(network, TAKEN, freeze_epochs=freeze_epochs, lr_decay=lr_decay)
    generator = torch.Generator().manual_seed(0)
    train(network, splits.train, config, generator=generator, fine_tuning=tuning, **more)
    return network


def change(network: nn.Module, name: str) -> Tensor:
    before, after = network_of().state_dict()[name], network.state_dict()[name]
    return (after - before).detach()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_frozen_layers_and_their_averages_stay_as_they_are(optimiser: str, splits: Splits) -> None:
    network = trained(splits, optimiser, freeze_epochs=2)
    for name, value in network.state_dict().items():
        is_taken = name.split(".")[0] in TAKEN
        if not name.endswith(("num_batches_tracked", "3.bias")):  # no gradient behind a norm
            assert torch.equal(value, network_of().state_dict()[name]) == is_taken, name
    after = trained(splits, optimiser, freeze_epochs=1)
    for name in ("0.weight", "1.weight", "1.running_mean"):
        assert change(after, name).any(), name


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_the_rate_of_a_layer_is_that_of_the_one_behind_times_the_factor(
    optimiser: str, splits: Splits
) -> None:
    one = {"settings": {"max_steps": 1, "weight_decay": 0.01}}
    plain = trained(splits, optimiser, **one)
    slower = trained(splits, optimiser, lr_decay=0.5, **one)
    for name, factor in (("0.weight", 0.25), ("1.weight", 0.25), ("3.weight", 1.0)):
        assert change(plain, name).any()
        assert torch.allclose(change(slower, name), factor * change(plain, name), atol=1e-7), name


def test_a_training_with_frozen_layers_continues_exactly(splits: Splits, tmp_path: Path) -> None:
    every = {"freeze_epochs": 1, "lr_decay": 0.5, "settings": {"epochs": 3, "ema": 0.1}}

    def checkpoint(name: str) -> TrainingCheckpoint:
        return TrainingCheckpoint(tmp_path / name, "test", {}, every_s=0.0)

    whole = trained(splits, "sgd", checkpoint=checkpoint("whole"), **every)
    steps = iter(range(1000))
    stop = splits.train.steps_per_epoch(TrainingConfig()) + 2
    with pytest.raises(TrainingStopped):
        trained(
            splits,
            "sgd",
            checkpoint=checkpoint("cut"),
            should_stop=lambda: next(steps) == stop,
            **every,
        )
    resumed = trained(splits, "sgd", checkpoint=checkpoint("cut"), **every)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_blocks_are_counted_from_the_classifier() -> None:
    resnet = layer_factors(models.resnet18(), 0.5)
    assert (resnet["fc"], resnet["layer4.1.conv2"], resnet["layer4.0.conv1"]) == (1, 0.5, 0.25)
    assert resnet["layer4.0.downsample.0"] == resnet["layer4.0.bn2"] == 0.25
    assert resnet["conv1"] == resnet["bn1"] == 0.5**9
    mobile = layer_factors(models.mobilenet_v2(), 0.5)
    assert (mobile["classifier.1"], mobile["features.18.0"]) == (1, 0.5)
    space = make_space(ResidualSpaceConfig())
    own = layer_factors(space.build(space.standard, ImageShape(1, 8, 10)), 0.5)
    assert (own["head"], own["blocks.5.0.body.4"], own["stem.1"]) == (1, 0.5, 0.5**7)
