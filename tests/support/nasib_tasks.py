"""Searches within a budget that take seconds, for tests and processes of theirs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascore import checkpoint
from nascore.config import BudgetConfig, CommonTrainingConfig, SearchConfig, TrainingConfig
from nascore.context import NO_CALLBACKS, Callbacks, SearchContext
from nascore.data.batches import Splits, load
from nascore.methods.common.one_shot_loop import checkpoint_path
from nascore.methods.nasib.distribution import Distribution
from nascore.methods.nasib.options import NasibOptions
from nascore.methods.nasib.search import BudgetSearch
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig

SPACE = SuperkernelSpaceConfig(
    num_nodes=2,
    num_stages=2,
    kernel_sizes=(1, 3),
    dilations=(1, 2),
    search_channels=4,
    final_channels=4,
    final_cells_per_stage=1,
)
OPTIONS: dict[str, Any] = {
    "weights": {"batch_size": 32, "lr": 0.1},
    "num_candidates": 4,
    "eval_batch_size": 60,
}


def num_alive(distribution: Distribution) -> dict[str, list[int]]:
    """Return the number of values that each edge has left, by axis."""
    alive_ES = distribution.alive_ES
    return {name: alive_ES[:, s].sum(1).tolist() for name, s in distribution._named_slices()}


def make_task(
    folder: Path,
    data: Path | Splits,
    *,
    budget: BudgetConfig | None = None,
    seed: int = 0,
    control: bool = False,
    space: SuperkernelSpaceConfig = SPACE,
    callbacks: Callbacks = NO_CALLBACKS,
    training: CommonTrainingConfig | None = None,
    **options: Any,
) -> SearchContext:
    """Of 20 steps on one CPU thread; the folders of the two steps are apart, as in a pipeline."""
    for name in ("controller", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    splits = data if isinstance(data, Splits) else load(data, torch.device("cpu"))
    info = splits.info
    return SearchContext(
        method="nasib",
        seeds=Seeds(seed),
        space=make_space(space),
        splits=splits,
        shape=ImageShape(info.channels, info.size, len(info.classes)),
        search=SearchConfig(
            space=space,
            budget=budget or BudgetConfig(steps=20),
            child=TrainingConfig(epochs=1, max_steps=4, batch_size=32),
            control=control,
        ),
        final=TrainingConfig(epochs=1, max_steps=4, batch_size=32),
        options=NasibOptions.model_validate({**OPTIONS, **options}),
        controller=folder / "controller",
        state=folder / "state",
        callbacks=callbacks,
        weights=folder / "weights",
        training=training or CommonTrainingConfig(),
    )


def run(folder: Path, digits: Splits | Path, **more: Any) -> BudgetSearch:
    search = BudgetSearch(make_task(folder, digits, **more))
    search.run()
    return search


def kept(search: BudgetSearch) -> dict[str, Tensor]:
    """All tensors of its checkpoint."""
    path = checkpoint_path(search.context.state, search.arm)
    return checkpoint.load(path, f"nasib-{search.arm}")[0]


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
