"""Rare classes in training: their weight in the loss, and how often their images are drawn."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nascore.config import BalanceConfig, TrainingConfig
from nascore.data.balance import class_weights, random_order
from nascore.data.batches import Split, load
from nascore.data.images import ImagesInMemory
from nascore.training.loop import train

LABELS = torch.tensor([0] * 90 + [1] * 9 + [2])
BALANCED = BalanceConfig(sampling="balanced")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def imbalanced(folder: Path, config: BalanceConfig) -> Split:
    """Image i is filled with i."""
    digits = load(folder, torch.device("cpu"))
    images = torch.arange(100, dtype=torch.uint8).view(-1, 1, 1, 1).expand(100, 1, 4, 4)
    info = replace(digits.info, mean=(0.0,), std=(1 / 255,), classes=("a", "b", "c"))
    made = Split(ImagesInMemory(images.clone()), LABELS, info=info, device=torch.device("cpu"))
    return made.balanced(config)


def test_weights_are_those_of_scikit_learn_and_weigh_every_class_alike() -> None:
    weights = class_weights(LABELS, 3)
    assert weights.tolist() == pytest.approx([100 / 270, 100 / 27, 100 / 3])
    assert (weights * torch.bincount(LABELS)).tolist() == pytest.approx([100 / 3] * 3)


def test_uniform_order_is_what_it_always_was() -> None:
    expected = torch.randperm(100, generator=generator())
    assert torch.equal(random_order(LABELS, BalanceConfig(), generator()), expected)


def test_balanced_order_draws_each_class_as_often_and_all_its_images() -> None:
    draws = torch.cat([random_order(LABELS, BALANCED, generator(seed)) for seed in range(100)])
    shares = torch.bincount(LABELS[draws]) / len(draws)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert torch.bincount(draws, minlength=100).min() > 0


def test_an_epoch_that_goes_on_in_the_middle_has_the_same_batches(digits_folder: Path) -> None:
    split, config = imbalanced(digits_folder, BALANCED), TrainingConfig(batch_size=16)
    whole = list(split.train_batches(config, generator(3)))
    rest = list(split.train_batches(config, generator(3), start=3))
    assert len(whole) == split.steps_per_epoch(config) == len(rest) + 3
    for (x, y), (other_x, other_y) in zip(whole[3:], rest, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    labels = torch.cat([y for _, y in whole])
    assert torch.bincount(labels).min() > 15


def test_halves_keep_the_balance(digits_folder: Path) -> None:
    both = BalanceConfig(class_weights="balanced", sampling="balanced")
    for half in imbalanced(digits_folder, both).halves(generator()):
        assert half.class_weights_K is not None
        labels = torch.cat([y for _, y in half.train_batches(TrainingConfig(), generator())])
        assert (labels != 0).double().mean() > 0.4


class Bias(nn.Module):
    """Answers the same for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.bias_K = nn.Parameter(torch.zeros(3))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW.new_zeros(len(x_BCHW), 3) + self.bias_K


@pytest.mark.parametrize(
    ("balance", "shares"),
    [
        (BalanceConfig(), [0.90, 0.09, 0.01]),
        (BalanceConfig(class_weights="balanced"), [1 / 3] * 3),
        (BalanceConfig(sampling="balanced"), [1 / 3] * 3),
    ],
    ids=["none", "weights", "sampling"],
)
def test_training_learns_the_shares_that_are_set(
    balance: BalanceConfig, shares: list[float], digits_folder: Path
) -> None:
    """A network of biases learns how common the classes are, as the loss counts them."""
    network = Bias()
    config = TrainingConfig(epochs=150, batch_size=100, lr=0.2, momentum=0.0, crop_padding=0)
    train(network, imbalanced(digits_folder, balance), config, generator=generator())
    found = F.softmax(network.bias_K.detach(), dim=0)
    assert found.tolist() == pytest.approx(shares, abs=0.05)


@pytest.mark.parametrize(
    ("objective", "settings", "expected"),
    [
        ("accuracy", {}, "auto"),
        ("auroc", {}, "auto"),
        ("balanced_accuracy", {}, "balanced"),
        ("macro_f1", {}, "balanced"),
        ("balanced_accuracy", {"class_weights": "none"}, "none"),
        ("balanced_accuracy", {"sampling": "balanced"}, "auto"),
        ("accuracy", {"class_weights": "balanced"}, "balanced"),
    ],
)
def test_the_loss_follows_the_objective(
    objective: str, settings: dict[str, str], expected: str
) -> None:
    config = BalanceConfig.model_validate(settings).for_objective(objective)
    assert config.class_weights == expected
