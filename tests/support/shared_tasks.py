"""Searches with shared weights that take a second, for tests and for processes of theirs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascore import checkpoint
from nascore.config import BudgetConfig, SearchConfig, SpaceSection, TrainingConfig
from nascore.context import SearchContext
from nascore.data.batches import load
from nascore.methods.enas import method as enas
from nascore.methods.enas.checkpoint import KIND
from nascore.methods.enas.shared_search import Ranked, SharedSearch
from nascore.methods.registry import METHODS
from nascore.results import SearchResult
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.nasbench201.config import Cell201SpaceConfig

METHOD_NAMES = ("memory-enas", "enas", "random-ws")
SPACE = Cell201SpaceConfig(search_channels=4, final_channels=4, final_cells_per_stage=1)
SHORT = BudgetConfig(steps=24)
SMALL: dict[str, Any] = {"num_candidates": 12, "eval_batch_size": 30, "weights": {"batch_size": 32}}
LEARNING: dict[str, Any] = {
    **SMALL,
    "controller": {"hidden_size": 8, "architectures": 3, "lr": 0.01},
    "controller_every": 4,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "random-ws": SMALL,
    "enas": LEARNING,
    "memory-enas": {
        **LEARNING,
        "memory": {"capacity": 40, "warmup": 20, "batch_size": 8, "pretrain_steps": 3},
    },
}


def make_task(
    folder: Path,
    data: Path,
    method: str = "memory-enas",
    *,
    budget: BudgetConfig = SHORT,
    seed: int = 0,
    control: bool = True,
    space: SpaceSection = SPACE,
    **options: Any,
) -> SearchContext:
    folder.mkdir(exist_ok=True)
    child = TrainingConfig(epochs=1, max_steps=4)
    return SearchContext(
        method=method,
        seeds=Seeds(seed),
        space=make_space(space),
        splits=load(data, torch.device("cpu")),
        shape=ImageShape(1, 8, 10),
        search=SearchConfig(space=space, budget=budget, child=child, control=control),
        final=TrainingConfig(epochs=1),
        options=METHODS[method].options.model_validate({**OPTIONS[method], **options}),
        controller=folder,
        state=folder,
    )


def run(task: SearchContext) -> SearchResult:
    enas.pretrain(task)
    return enas.search(task)


def train_shared(task: SearchContext) -> list[Ranked]:
    """The method's arm without the training of its finalists."""
    enas.pretrain(task)
    arm = SharedSearch(task, "method", enas.load_policy(task)[0])
    arm.run()
    return arm.rank()


def kept(task: SearchContext, arm: str = "method") -> dict[str, Tensor]:
    """All tensors that an arm leaves behind."""
    return checkpoint.load(task.state / f"{arm}.ckpt", KIND)[0]


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit; NaN is the reward of what was never judged."""
    return one.keys() == other.keys() and all(
        torch.allclose(one[k], other[k], rtol=0, atol=0, equal_nan=True) for k in one
    )


def outcome(result: SearchResult) -> Any:
    arms = [arm for arm in (result.arm, result.control) if arm is not None]
    children = [[(c.genotype, c.valid_accuracy) for c in arm.children] for arm in arms]
    return result.genotype, result.valid_accuracy, children
