import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nascore.config import TrainingConfig
from nascore.data.batches import load
from nascore.errors import ChildFailedError
from nascore.training.loop import TrainingStopped, train
from nascore.training.prediction import evaluate, predict
from nascore.training.schedule import learning_rate

CPU = torch.device("cpu")


def small_network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)
        )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_training_learns_real_digits(digits_folder: Path) -> None:
    splits = load(digits_folder, CPU)
    network = small_network()
    before = evaluate(network, splits.valid)
    result = train(
        network,
        splits.train,
        TrainingConfig(epochs=8, crop_padding=0),
        generator=generator(),
        valid=splits.valid,
    )
    assert before < 0.3
    assert result.valid_accuracy[-1] > 0.75
    assert len(result.train_accuracy) == len(result.valid_accuracy) == 8
    assert result.num_steps == 8 * splits.train.steps_per_epoch(TrainingConfig())


def test_same_seed_same_weights_other_seed_other(digits_folder: Path) -> None:
    splits = load(digits_folder, CPU)
    config = TrainingConfig(epochs=1, cutout=3)
    weights = []
    for seed in (0, 0, 1):
        network = small_network()
        train(network, splits.train, config, generator=generator(seed))
        weights.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_global_random_state_is_left_alone(digits_folder: Path) -> None:
    splits = load(digits_folder, CPU)
    before = torch.get_rng_state()
    train(small_network(), splits.train, TrainingConfig(epochs=1), generator=generator())
    assert torch.equal(before, torch.get_rng_state())


class Explodes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(x_BCHW.flatten(1)) * math.inf


class TooLarge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(x_BCHW.flatten(1)) + torch.zeros(2**50)[:10]


@pytest.mark.parametrize(
    ("network", "reason"), [(Explodes(), "loss is nan"), (TooLarge(), "does not fit in memory")]
)
def test_a_child_that_cannot_be_trained_fails_with_its_reason(
    digits_folder: Path, network: nn.Module, reason: str
) -> None:
    splits = load(digits_folder, CPU)
    with pytest.raises(ChildFailedError, match=reason):
        train(network, splits.train, TrainingConfig(epochs=1), generator=generator())


def test_stops_between_updates_when_told(digits_folder: Path) -> None:
    splits = load(digits_folder, CPU)
    polls = iter([False, False, True])
    with pytest.raises(TrainingStopped):
        train(
            small_network(),
            splits.train,
            TrainingConfig(epochs=1),
            generator=generator(),
            should_stop=lambda: next(polls),
        )


def test_learning_rate_warms_up_then_falls_as_a_cosine() -> None:
    config = TrainingConfig(lr=1.0, min_lr=0.0, warmup_fraction=0.2)
    rates = [learning_rate(config, step, 10) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)  # half way through the cosine of 8 steps
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)


def test_weight_decay_shrinks_kernels_and_spares_biases(digits_folder: Path) -> None:
    splits = load(digits_folder, CPU)
    norms = {}
    for decay in (0.0, 0.5):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        nn.init.constant_(network[1].bias, 1.0)
        nn.init.constant_(network[1].weight, 0.1)
        config = TrainingConfig(epochs=1, lr=0.01, min_lr=0.01, weight_decay=decay)
        train(network, splits.train, config, generator=generator())
        norms[decay] = tuple(
            float(p.detach().sum()) for p in (network[1].weight.norm(), network[1].bias)
        )
    assert norms[0.5][0] < 0.98 * norms[0.0][0]
    # A softmax does not change when all biases move together, and decay would move their sum.
    assert norms[0.5][1] == pytest.approx(norms[0.0][1], abs=1e-4)


def test_predictions_keep_the_order_of_the_split(digits_folder: Path) -> None:
    splits = load(digits_folder, CPU)
    network = small_network()
    whole = predict(network, splits.test, batch_size=1000)
    parts = predict(network, splits.test, batch_size=7)
    assert whole.shape == (splits.test.num_images, 10)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)
