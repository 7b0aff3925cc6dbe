"""A training that resumes from its checkpoint goes on bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from nascore import checkpoint
from nascore.errors import InputError
from nascore.training.resumable import (
    TrainingCheckpoint,
    load_optimizer,
    optimizer_tensors,
    tensors_of,
)

Make = Callable[[nn.Module], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda net: torch.optim.Adam(net.parameters(), lr=0.01),
}


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, *, start: int, steps: int) -> None:
    for step in range(start, start + steps):
        x_BC = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x_BC).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_optimiser_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    make = OPTIMIZERS[name]
    whole = network()
    train(whole, make(whole), start=0, steps=6)

    first = network()
    optimizer = make(first)
    train(first, optimizer, start=0, steps=3)
    path = tmp_path / "state" / "training.ckpt"
    tensors = tensors_of("net", first) | optimizer_tensors(name, optimizer)
    TrainingCheckpoint(path, "test", {"seed": 0}, every_s=0.0).save(tensors, step=3)

    second = network()
    optimizer = make(second)
    found = TrainingCheckpoint(path, "test", {"seed": 0}, every_s=0.0).load()
    assert found is not None
    loaded, meta = found
    second.load_state_dict(checkpoint.below("net.", loaded))
    load_optimizer(name, optimizer, loaded)
    train(second, optimizer, start=int(meta["step"]), steps=3)
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.ckpt"
    assert TrainingCheckpoint(path, "test", {"seed": 0}, every_s=0.0).load() is None
    TrainingCheckpoint(path, "test", {"seed": 0}, every_s=0.0).save({})
    with pytest.raises(InputError, match="with other settings; use another folder"):
        TrainingCheckpoint(path, "test", {"seed": 1}, every_s=0.0).load()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"damaged.*delete it to start again"):
        TrainingCheckpoint(path, "test", {"seed": 0}, every_s=0.0).load()


def test_seconds_before_a_crash_count(tmp_path: Path) -> None:
    path = tmp_path / "training.ckpt"
    TrainingCheckpoint(path, "test", {}, every_s=0.0, prior_cost_s=100.0).save({})
    resumed = TrainingCheckpoint(path, "test", {}, every_s=1000.0)
    assert not resumed.is_due()
    resumed.load()
    assert 100.0 <= resumed.seconds < 110.0
