"""SGD of shared weights: a path leaves the rest, and training resumes exactly."""

import pytest
import torch
from torch import Tensor, nn

from nascore.config import TrainingConfig
from nascore.methods.common.weight_updates import WeightUpdates, path_loss

TRAINING = TrainingConfig(lr=0.1, momentum=0.9, max_grad_norm=5.0)


def make_supernet() -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList([nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2)])


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 1, 2, 2, generator=generator), torch.arange(8) % 3


def weights_of(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_weights_outside_the_path_are_unchanged_in_spite_of_their_momentum() -> None:
    supernet = make_supernet()
    updates = WeightUpdates(supernet, TRAINING)
    updates.step(supernet[1], *batch(0), lr=0.1)
    before = weights_of(supernet[1]), weights_of(supernet[0])
    updates.step(supernet[0], *batch(1), lr=0.1)
    assert all(map(torch.equal, weights_of(supernet[1]), before[0]))
    assert not any(map(torch.equal, weights_of(supernet[0]), before[1]))


def test_it_resumes_exactly() -> None:
    whole, first, second = (WeightUpdates(make_supernet(), TRAINING) for _ in range(3))
    for updates in (whole, first):
        updates.step(updates.supernet[0], *batch(0), lr=0.1)
    second.load(first.tensors())
    for updates in (whole, second):
        updates.step(updates.supernet[0], *batch(1), lr=0.05)
    assert all(map(torch.equal, weights_of(whole.supernet), weights_of(second.supernet)))


def test_gradients_are_clipped() -> None:
    supernet = make_supernet()
    start = weights_of(supernet[0])
    training = TRAINING.model_copy(update={"max_grad_norm": 1e-3, "momentum": 0.0})
    WeightUpdates(supernet, training).step(supernet[0], *batch(0), lr=1.0)
    moved = torch.cat(
        [(a - b).flatten() for a, b in zip(weights_of(supernet[0]), start, strict=True)]
    )
    assert float(moved.norm()) == pytest.approx(1e-3, rel=0.2)


def test_the_loss_is_the_weighted_cross_entropy_of_the_whole_batch() -> None:
    network, (x_BCHW, y_B) = make_supernet()[0], batch(0)
    weights_K = torch.tensor([1.0, 2.0, 0.5])
    by_hand = -(network(x_BCHW).log_softmax(1)[range(8), y_B] * weights_K[y_B]).mean()
    torch.testing.assert_close(path_loss(network, x_BCHW, y_B, weights_K), by_hand)
