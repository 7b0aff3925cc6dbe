"""The input of a search method: settings, data, folders and callbacks; no services."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic

import torch
from typing_extensions import TypeVar  # typing.TypeVar has no default before Python 3.13

from nascore.config import (
    CommonTrainingConfig,
    LatencyConfig,
    Objective,
    SearchConfig,
    Section,
    TrainingConfig,
)
from nascore.config.transfer import TransferConfig
from nascore.data.batches import Splits
from nascore.results import Child
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, SearchSpace

if TYPE_CHECKING:  # of a layer above; the context only carries them
    from nascore.pretrained.weight_files import WeightFile
    from nascore.training.distillation import Teacher

OptionsT = TypeVar("OptionsT", bound=Section, default=Section, covariant=True)


class Callbacks:
    """Receives the events of a search. Here each method does nothing; override what is needed.

    The two arms of a search, `method` and `control`, may call from two threads at once.
    """

    def on_child(self, arm: str, child: Child) -> None:
        """Receive a child that has ended, failed ones included."""

    def on_progress(self, arm: str, fraction: float) -> None:
        """Receive the completed fraction (0..1) of the training of shared weights."""

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive metrics by name; `step` counts weight updates, children or epochs."""

    def on_message(self, text: str) -> None:
        """Receive a sentence for the user."""

    def should_stop(self) -> bool:
        """Return whether the search should end early with the best result so far.

        Polled between weight updates.
        """
        return False


NO_CALLBACKS = Callbacks()


@dataclass(frozen=True)
class SearchContext(Generic[OptionsT]):
    """The input of one run of one method.

    Attributes:
        splits: the data; a method never reads `splits.test`.
        shape: of the images, as the networks receive them.
        search: settings of the search.
        final: settings of the training of the winner.
        options: settings of the method, validated: `search.options` as its own class.
        latency: protocol of latency measurements, and the latency target.
        controller: folder in which `pretrain` stores what `search` loads.
        weights: folder in which `search` stores the weights from which `train_final` starts, for
            methods that do so; None where there is none.
        state: folder that outlives the process, for the study and checkpoints.
        run_key: names the study of this run in a database that many runs share.
        training: settings that all trainings share; `splits.train` follows its class balance.
        is_secondary_worker: another process runs the same search and waits for its last child.
        start: weights from which the final network starts; None for initial ones.
        teacher: whose answers the final network learns in addition to the labels; None without.
    """

    method: str
    seeds: Seeds
    space: SearchSpace
    splits: Splits
    shape: ImageShape
    search: SearchConfig
    final: TrainingConfig
    options: OptionsT
    controller: Path
    state: Path
    callbacks: Callbacks = NO_CALLBACKS
    run_key: str = "search"
    is_secondary_worker: bool = False
    weights: Path | None = None
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    training: CommonTrainingConfig = field(default_factory=CommonTrainingConfig)
    start: "WeightFile | None" = None
    teacher: "Teacher | None" = None

    @cached_property
    def child(self) -> TrainingConfig:
        """All settings of the training of a child."""
        return self.training.resolve_child(self.search.child)

    def objective_settings(self) -> dict[str, object]:
        """Return `objective_settings` of this run, for the identity of studies and checkpoints."""
        return objective_settings(self.search.objective, self.training)


def objective_settings(objective: Objective, training: CommonTrainingConfig) -> dict[str, object]:
    """Return the objective and the common training settings where they are not the defaults."""
    settings: dict[str, object] = {} if objective == "accuracy" else {"objective": objective}
    training = training.for_objective(objective)
    # Weights and teacher are of the final network alone, and change no child.
    not_of_children = {"device", "devices", *TransferConfig.model_fields}
    if common := training.model_dump(mode="json", exclude=not_of_children, exclude_defaults=True):
        settings["training"] = common
    return settings


def device_of(config: CommonTrainingConfig) -> torch.device:
    """Return the device of a training; `auto` selects a GPU when there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)
