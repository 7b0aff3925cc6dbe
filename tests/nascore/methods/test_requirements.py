"""What methods refuse: each requirement alone, and those of every registered method."""

from typing import Any

import pytest

from nascore.config import BudgetConfig, CommonTrainingConfig, SearchConfig
from nascore.methods.registry import METHODS
from nascore.methods.requirements import (
    AccuracyObjective,
    BudgetOfSharedWeights,
    FixedClasses,
    NewClasses,
    NoInt8,
    OneSpace,
    OneWorker,
    OwnWeights,
    Requirement,
    RunSettings,
    SpaceWithSharedWeights,
)
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.nasbench201.config import Cell201SpaceConfig


def run_of(**changes: Any) -> RunSettings:
    search = {
        name: changes.pop(name) for name in list(changes) if name in SearchConfig.model_fields
    }
    given: dict[str, Any] = {
        "method": "some-method",
        "search": SearchConfig(budget=BudgetConfig(steps=10)).model_copy(update=search),
        "training": CommonTrainingConfig(),
        "split_by": "image",
    }
    return RunSettings(**{**given, **changes})


BALANCED = CommonTrainingConfig(sampling="balanced")
TRANSFER = CommonTrainingConfig(weights="weights.pt", teacher="digits", ensemble=2)


@pytest.mark.parametrize(
    ("requirement", "fine", "wrong", "expected"),
    [
        (OneWorker(), {}, {"workers": 2}, {"search.workers": "set it to 1"}),
        (
            BudgetOfSharedWeights(),
            {"budget": BudgetConfig(gpu_hours=1)},
            {"budget": BudgetConfig(children=4)},
            {"search.budget.children": "give one of steps, seconds, gpu_hours"},
        ),
        (
            OneSpace("chain"),
            {"space": ChainSpaceConfig()},
            {"space": Cell201SpaceConfig()},
            {"search.space.name": "set it to chain"},
        ),
        (
            SpaceWithSharedWeights(),
            {"space": Cell201SpaceConfig()},
            {"space": ChainSpaceConfig()},
            {"search.space.name": "needs a space with shared weights: nasbench201 or"},
        ),
        (
            AccuracyObjective("counts right answers"),
            {},
            {"objective": "macro_f1"},
            {"search.objective": "some-method counts right answers; set it to accuracy"},
        ),
        (
            OwnWeights(),
            {"training": CommonTrainingConfig(teacher="digits")},
            {"training": TRANSFER},
            {
                "training.weights": "some-method starts from its search; set it to null",
                "training.ensemble": "some-method starts from its search; set it to null",
            },
        ),
        (
            NoInt8("choose a path"),
            {},
            {"int8_max_drop": 0.01},
            {"promote.int8_max_drop": "networks of some-method choose a path and have no single"},
        ),
        (FixedClasses(), {}, {"split_by": "class"}, {"data.split_by": "set it to image"}),
        (
            NewClasses(),
            {"split_by": "class"},
            {"split_by": "class", "training": TRANSFER},
            {
                "training.weights": "set it to null",
                "training.teacher": "set it to null",
                "training.ensemble": "set it to null",
            },
        ),
        (
            NewClasses(),
            {"split_by": "class"},
            {"split_by": "class", "training": CommonTrainingConfig(recipe="quick", mixup=0.1)},
            {"training.recipe": "leave it out", "training.mixup": "set it to null"},
        ),
        (
            NewClasses(),
            {"split_by": "class"},
            {"training": BALANCED, "max_class_drop": 0.1},
            {
                "data.split_by": "set it to class",
                "training.sampling": "set it to uniform",
                "promote.max_class_drop": "set it to null",
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "problems") else "",
)
def test_a_requirement_names_what_does_not_meet_it(
    requirement: Requirement,
    fine: dict[str, Any],
    wrong: dict[str, Any],
    expected: dict[str, str],
) -> None:
    assert not requirement.problems(run_of(**fine))
    found = {problem.key: problem.message for problem in requirement.problems(run_of(**wrong))}
    assert found.keys() == expected.keys()
    for key, message in expected.items():
        assert message in found[key]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_refuses_the_splits_of_the_other_kind(method: str) -> None:
    entry = METHODS[method]
    other = "class" if entry.split_by == "image" else "image"
    for split_by, is_refused in ((entry.split_by, False), (other, True)):
        keys = {problem.key for problem in entry.problems(run_of(split_by=split_by))}
        assert ("data.split_by" in keys) == is_refused
