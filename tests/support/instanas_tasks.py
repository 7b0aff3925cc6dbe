"""Searches for an architecture per image that take seconds, for tests and processes of theirs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascore.config import (
    BudgetConfig,
    CommonTrainingConfig,
    LatencyConfig,
    SearchConfig,
    TrainingConfig,
)
from nascore.context import NO_CALLBACKS, Callbacks, SearchContext
from nascore.data.batches import Splits, load
from nascore.methods.instanas import method
from nascore.methods.instanas.options import InstanasOptions
from nascore.results import SearchResult
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.mobilenet.config import MobileSpaceConfig

SPACE = MobileSpaceConfig(
    stages=((8, 1, 2), (8, 1, 1), (12, 1, 2)), stem_channels=8, head_channels=16
)
OPTIONS: dict[str, Any] = {
    "pretraining": {"epochs": 2, "batch_size": 32, "lr": 0.1},
    "weights": {"batch_size": 32, "lr": 0.02, "momentum": 0.5},
    "controller": {"channels": 4, "num_stages": 1, "pooling": 1, "lr": 0.003},
    "reward": {"end": 1.0},
    "turn_steps": 6,
    "num_points": 3,
    "table": "macs",
}


def make_task(
    folder: Path,
    data: Path | Splits,
    *,
    budget: BudgetConfig | None = None,
    seed: int = 0,
    control: bool = True,
    child: TrainingConfig | None = None,
    latency: LatencyConfig | None = None,
    space: MobileSpaceConfig = SPACE,
    callbacks: Callbacks = NO_CALLBACKS,
    training: CommonTrainingConfig | None = None,
    **options: Any,
) -> SearchContext:
    (folder / "controller").mkdir(parents=True, exist_ok=True)
    splits = data if isinstance(data, Splits) else load(data, torch.device("cpu"))
    info = splits.info
    return SearchContext(
        method="instanas",
        seeds=Seeds(seed),
        space=make_space(space),
        splits=splits,
        shape=ImageShape(info.channels, info.size, len(info.classes)),
        search=SearchConfig(
            space=space,
            budget=budget or BudgetConfig(steps=30),
            child=child or TrainingConfig(epochs=1, max_steps=4),
            control=control,
        ),
        final=TrainingConfig(epochs=1, max_steps=10),
        options=InstanasOptions.model_validate({**OPTIONS, **options}),
        controller=folder / "controller",
        state=folder,
        callbacks=callbacks,
        weights=folder / "weights",
        latency=latency or LatencyConfig(),
        training=training or CommonTrainingConfig(),
    )


def run(task: SearchContext) -> SearchResult:
    method.pretrain(task)
    return method.search(task)


def weights_of(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
