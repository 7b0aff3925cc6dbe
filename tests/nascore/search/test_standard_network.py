"""A search of a space with a standard network starts at it, and stays near its cost."""

from pathlib import Path

import pytest
import torch

from nascore.config import BudgetConfig, SearchConfig, TrainingConfig
from nascore.context import SearchContext
from nascore.data.batches import load
from nascore.errors import InputError
from nascore.methods.registry import METHODS
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace

NAMES = ["random", "regularized-evolution", "local-search", "tpe", "nases"]


def context_of(
    method: str, config: ResidualSpaceConfig, folder: Path, dataset: Path, *, children: int
) -> SearchContext:
    child = TrainingConfig(epochs=1, max_steps=2)
    own = {"autoencoder": {"steps": 2, "num_strings": 64}} if method == "nases" else {}
    return SearchContext(
        method=method,
        seeds=Seeds(0),
        space=ResidualSpace(config),
        splits=load(dataset, torch.device("cpu")),
        shape=ImageShape(1, 8, 10),
        search=SearchConfig(space=config, budget=BudgetConfig(children=children), child=child),
        final=child,
        options=METHODS[method].options.model_validate(own),
        controller=folder,
        state=folder,
    )


@pytest.mark.parametrize("method", NAMES)
def test_the_first_child_of_both_searches_is_the_standard_network(
    method: str, tmp_path: Path, digits_folder: Path
) -> None:
    config = ResidualSpaceConfig(num_stages=1, max_depth=2, channels=8)
    context = context_of(method, config, tmp_path, digits_folder, children=3)
    module = METHODS[method].load()
    module.pretrain(context)
    result = module.search(context)
    assert result.control is not None
    for arm in (result.arm, result.control):
        trained = [child for child in arm.children if not child.is_rejected]
        first, *others = sorted(trained, key=lambda child: child.number)
        assert first.genotype == ResidualSpace(config).standard
        assert len(others) == 2
        assert all(other.genotype != first.genotype for other in others)


def test_networks_far_above_its_cost_are_not_trained_and_use_no_budget(
    tmp_path: Path, digits_folder: Path
) -> None:
    config = ResidualSpaceConfig(num_stages=1, max_depth=2, channels=8)
    context = context_of("random", config, tmp_path, digits_folder, children=4)
    context.space.max_cost = 1.0  # type: ignore[attr-defined]
    children = METHODS["random"].load().search(context).arm.children
    refused = [child for child in children if child.is_rejected]
    assert len(children) - len(refused) == 4
    assert refused, "none of these was above the limit: take another seed"
    space = ResidualSpace(config)
    space.max_cost = 1.0
    for child in children:
        assert (space.refusal(child.genotype, context.shape) is not None) == child.is_rejected
    assert all("of the standard network, more than 1" in (one.failure or "") for one in refused)


def test_a_study_of_equally_many_updates_is_not_continued_for_equal_computation(
    tmp_path: Path, digits_folder: Path
) -> None:
    config = ResidualSpaceConfig(num_stages=1, max_depth=2, channels=8, equal_computation=False)
    METHODS["random"].load().search(
        context_of("random", config, tmp_path, digits_folder, children=1)
    )
    config = config.model_copy(update={"equal_computation": True})
    context = context_of("random", config, tmp_path, digits_folder, children=2)
    with pytest.raises(InputError, match=r"another search: equal_computation differ"):
        METHODS["random"].load().search(context)
