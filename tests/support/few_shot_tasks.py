"""Searches for few-shot networks that take seconds, for tests and processes of theirs."""

from pathlib import Path
from typing import Any

import torch

from nascore.config import BudgetConfig, DataConfig, SearchConfig, TrainingConfig
from nascore.context import NO_CALLBACKS, Callbacks, SearchContext
from nascore.data.batches import Splits, load
from nascore.data.prepared import prepare
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.results import Child
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig

SPACE = FewShotCellSpaceConfig(
    operations=("conv_3x3", "max_pool_3x3", "identity"),
    max_blocks=2,
    num_cells=1,
    search_channels=2,
    final_channels=3,
)
META: dict[str, Any] = {
    "outer_steps": 2,
    "tasks": 2,
    "inner_steps": 1,
    "inner_lr": 0.01,
}
OPTIONS: dict[str, Any] = {
    "episode": {"ways": 3, "shots": 1, "queries": 2, "transductive": True},
    "meta": META,
    "final": {"outer_steps": 2},
    "valid_episodes": 4,
    "progressive": {"num_first_stage": 6, "top_k": 3, "num_random": 1, "num_predictors": 2},
    "test_shots": [1, 2],
}


def prepare_digits(folder: Path) -> Path:
    """Digits of four, three and three classes."""
    config = DataConfig(
        source="digits", split_by="class", valid_fraction=0.3, test_fraction=0.3, max_train=300
    )
    prepare(config, seed=0, folder=folder)
    return folder


def make_task(
    folder: Path,
    data: Path | Splits,
    *,
    children: int = 10,
    seed: int = 0,
    control: bool = True,
    space: FewShotCellSpaceConfig = SPACE,
    callbacks: Callbacks = NO_CALLBACKS,
    search: dict[str, Any] | None = None,
    is_secondary_worker: bool = False,
    **options: Any,
) -> SearchContext:
    """
    Args:
        search: further settings of `SearchConfig`.
    """
    (folder / "controller").mkdir(parents=True, exist_ok=True)
    splits = data if isinstance(data, Splits) else load(data, torch.device("cpu"))
    chosen = AutoMetaOptions.model_validate({**OPTIONS, **options})
    return SearchContext(
        method="auto-meta",
        seeds=Seeds(seed),
        space=make_space(space),
        splits=splits,
        shape=ImageShape(
            splits.info.channels, splits.info.size, chosen.num_classes(splits.info.classes)
        ),
        search=SearchConfig(
            space=space,
            budget=BudgetConfig(children=children),
            child=TrainingConfig(epochs=1),
            control=control,
            **(search or {}),
        ),
        final=TrainingConfig(epochs=1),
        options=chosen,
        controller=folder / "controller",
        state=folder,
        callbacks=callbacks,
        is_secondary_worker=is_secondary_worker,
    )


def outcome(child: Child) -> tuple[object, ...]:
    """What must repeat: everything but the clock."""
    return child.number, child.genotype, child.valid_accuracy, child.failure
