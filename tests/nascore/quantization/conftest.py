"""A small residual network that has learned the digits, as a final model."""

from pathlib import Path

import pytest
import torch

from nascore.config import LatencyConfig
from nascore.data.batches import Splits, load
from nascore.spaces.base import ImageShape
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace
from nascore.training.child import build_network
from nascore.training.final_model import FinalModel
from nascore.training.prediction import evaluate


@pytest.fixture(scope="session")
def splits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))


@pytest.fixture(scope="session")
def trained(splits: Splits) -> FinalModel:
    space = ResidualSpace(ResidualSpaceConfig(num_stages=2, channels=8))
    shape = ImageShape(splits.info.channels, splits.info.size, len(splits.info.classes))
    network = build_network(space, space.standard, shape, seed=0, final=True).train()
    optimizer = torch.optim.Adam(network.parameters(), 0.005)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        x_BCHW, y_B = splits.train.random_batch(64, generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x_BCHW), y_B).backward()
        optimizer.step()
    valid, test = evaluate(network, splits.valid), evaluate(network, splits.test)
    assert valid > 0.85, "a network that has learned little loses little"
    return FinalModel(
        space.standard, shape, network.eval(), 1.0, valid, test, 5000, 10**6, 80, 1.0,
        valid_score=valid, test_score=test,
    )  # fmt: skip


@pytest.fixture
def latency() -> LatencyConfig:
    return LatencyConfig(runs=20, warmup_runs=2, threads=1)
