"""Trainings of networks whose updates cost less or more than those of the standard network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nascore.config import SearchConfig, TrainingConfig
from nascore.context import SearchContext
from nascore.data.batches import load
from nascore.genotype import Genotype
from nascore.methods.registry import METHODS
from nascore.results import Arm, SearchResult
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_genotype, make_space, sample
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.residual.config import BLOCKS, ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace
from nascore.training import child as child_module
from nascore.training.child import ChildJob, ImageTraining
from nascore.training.final_model import train_from_scratch
from nascore.training.length import cost_in_updates, for_cost

SHAPE = ImageShape(1, 8, 10)
NUM_STEPS = 60
CHEAP, COSTLY = {5: 1}, {3: BLOCKS.index("inverted3")}
"""Tokens of two networks: half of the resolution in the first stage, an inverted bottleneck."""


def context_of(dataset: Path, folder: Path, **space: Any) -> SearchContext:
    config = ResidualSpaceConfig(num_stages=1, max_depth=2, channels=8, **space)
    training = TrainingConfig(epochs=100, max_steps=NUM_STEPS, batch_size=64)
    return SearchContext(
        method="random",
        seeds=Seeds(0),
        space=ResidualSpace(config),
        splits=load(dataset, torch.device("cpu")),
        shape=SHAPE,
        search=SearchConfig(space=config, child=training),
        final=training,
        options=METHODS["random"].options(),
        controller=folder,
        state=folder,
    )


def genotype_of(context: SearchContext, changes: dict[int, int]) -> Genotype:
    tokens = [0, 2, 0, 1, 0, 0, 0, 0]
    return make_genotype(context.space, [changes.get(k, token) for k, token in enumerate(tokens)])


@pytest.mark.parametrize(
    ("cost", "num_steps", "epochs"), [(1.0, 30, 3), (0.5, 60, 4), (0.3, 100, 6), (100.0, 1, 1)]
)
def test_a_training_has_the_updates_that_cost_the_same(
    cost: float, num_steps: int, epochs: int, digits_folder: Path
) -> None:
    split = load(digits_folder, torch.device("cpu")).train
    config = TrainingConfig(epochs=3, max_steps=30, batch_size=len(split.labels) // 17)
    found = for_cost(config, split, cost)
    assert split.steps_per_epoch(config) == 17
    assert (found.max_steps, found.epochs) == (num_steps, epochs)
    assert found.model_copy(update={"max_steps": 30, "epochs": 3}) == config


@pytest.mark.parametrize("changes", [CHEAP, COSTLY])
@pytest.mark.parametrize("is_on", [True, False])
def test_children_and_final_network_are_trained_for_equal_computation(
    changes: dict[int, int],
    is_on: bool,
    digits_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = context_of(digits_folder, tmp_path, equal_computation=is_on)
    genotype = genotype_of(context, changes)
    cost = cost_in_updates(context.space, genotype, SHAPE)
    assert (cost == 1) != is_on
    if is_on:
        assert (cost < 0.8) if changes is CHEAP else (cost > 1.2)
    wanted = round(NUM_STEPS / cost)
    real, made, epochs = child_module.train, [], []

    def spy(*args: Any, **kwargs: Any) -> Any:
        training = real(*args, **kwargs)
        made.append(training.num_steps)
        return training

    monkeypatch.setattr(child_module, "train", spy)
    job = ChildJob(
        genotype=genotype,
        arm="method",
        number=0,
        cost=None,
        on_epoch=lambda epoch, score: epochs.append(epoch),
        should_stop=lambda: False,
    )
    ImageTraining().train(context, job)
    assert made == [wanted]
    # Pruners compare children by these epochs, so they are those of the settings.
    per_epoch = ImageTraining().steps_per_epoch(context)
    assert epochs == sorted(set(epochs))
    assert epochs[-1] == -(-NUM_STEPS // per_epoch) - 1
    arm = Arm("random", (), 1.0)
    result = SearchResult("random", 0, genotype, 0.5, arm, None, None, (), {})
    assert train_from_scratch(context, result).num_steps == wanted


def test_spaces_without_a_standard_network_have_equally_many_updates() -> None:
    space = make_space(ChainSpaceConfig())
    genotype = sample(space, np.random.default_rng(0))
    assert cost_in_updates(space, genotype, SHAPE) == 1
