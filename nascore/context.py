"""What a method is given to work on: values and folders, no services."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from nascore.config import (
    BalanceConfig,
    LatencyConfig,
    Objective,
    SearchConfig,
    Section,
    TrainingConfig,
)
from nascore.data.batches import Splits
from nascore.results import Child, Report
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, SearchSpace


def ignore_child(arm: str, child: Child) -> None:
    """Nobody is watching."""


def ignore_progress(arm: str, share: float) -> None:
    """Nobody is waiting."""


def ignore_metrics(metrics: dict[str, float], step: int) -> None:
    """Nobody is keeping them."""


def ignore_message(text: str) -> None:
    """Nobody is reading."""


def never_stop() -> bool:
    return False


@dataclass(frozen=True)
class SearchContext:
    """One run of one method.

    Attributes:
        splits: the data; a method never touches `splits.test`.
        shape: of the images, as the networks see them.
        search: how the architecture is found; `options` holds the method's own settings, checked.
        final: how the winner is trained.
        latency: how times are measured, and the time to be held.
        controller: folder where `pretrain` leaves its work for `search`.
        weights: folder where `search` leaves the weights that `train_final` starts from, if its
            method does; None where there are none.
        state: folder that outlives the process; the study and checkpoints are kept there.
        report: called with metrics and a step.
        on_child: called with the arm (`method` or `control`) after each child.
        on_progress: called with the arm, while it trains one network for all architectures, and the
            share of that training that is done.
        on_message: called with a sentence that a person should read.
        should_stop: polled between weight updates; true asks for the best result so far.
        run_key: names the study of this run where many runs share a database.
        balance: what rare classes count for; `splits.train` follows it.
        is_secondary_worker: another process runs the same task and waits for the end of every
            child.
    """

    method: str
    seeds: Seeds
    space: SearchSpace
    splits: Splits
    shape: ImageShape
    search: SearchConfig
    final: TrainingConfig
    options: Section
    controller: Path
    state: Path
    report: Report
    on_child: Callable[[str, Child], None] = ignore_child
    on_progress: Callable[[str, float], None] = ignore_progress
    on_message: Callable[[str], None] = ignore_message
    should_stop: Callable[[], bool] = never_stop
    run_key: str = "search"
    is_secondary_worker: bool = False
    weights: Path | None = None
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)

    def aims(self) -> dict[str, object]:
        """Of the identity of what is kept: what the search and its trainings aim at."""
        return aims_of(self.search.objective, self.balance)


def aims_of(objective: Objective, balance: BalanceConfig) -> dict[str, object]:
    """Empty where nothing was set, as in what earlier versions have kept."""
    told: dict[str, object] = {} if objective == "accuracy" else {"objective": objective}
    if balance != BalanceConfig():
        told["training"] = balance.model_dump(mode="json")
    return told


def device_of(config: TrainingConfig) -> torch.device:
    """The device a training runs on; `auto` takes a GPU when there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)
