"""A search of a space with a standard network starts at it."""

from pathlib import Path

import pytest
import torch

from nascore.config import BudgetConfig, SearchConfig, TrainingConfig
from nascore.context import SearchContext
from nascore.data.batches import load
from nascore.methods.registry import METHODS
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace


@pytest.mark.parametrize("method", ["random", "regularized-evolution", "local-search", "tpe"])
def test_the_first_child_of_both_searches_is_the_standard_network(
    method: str, tmp_path: Path, digits_folder: Path
) -> None:
    config = ResidualSpaceConfig(num_stages=1, max_depth=2, channels=8)
    child = TrainingConfig(epochs=1, max_steps=2)
    context = SearchContext(
        method=method,
        seeds=Seeds(0),
        space=ResidualSpace(config),
        splits=load(digits_folder, torch.device("cpu")),
        shape=ImageShape(1, 8, 10),
        search=SearchConfig(space=config, budget=BudgetConfig(children=3), child=child),
        final=child,
        options=METHODS[method].options(),
        controller=tmp_path,
        state=tmp_path,
    )
    result = METHODS[method].load().search(context)
    assert result.control is not None
    for arm in (result.arm, result.control):
        first, *others = sorted(arm.children, key=lambda child: child.number)
        assert first.genotype == ResidualSpace(config).standard
        assert len(others) == 2
        assert all(other.genotype != first.genotype for other in others)
