"""What a search maximises: children, choice, verdict and names follow `search.objective`."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nasib_tasks
import pytest
import shared_tasks
import torch
from callbacks import CallbacksOf
from torch import nn

from nascore.config import (
    OBJECTIVES,
    BudgetConfig,
    CommonTrainingConfig,
    CostConfig,
    Objective,
    SearchConfig,
    TrainingConfig,
)
from nascore.context import SearchContext, objective_settings
from nascore.data.batches import load
from nascore.genotype import Genotype
from nascore.methods.baselines.options import RandomOptions
from nascore.methods.registry import METHODS
from nascore.results import ChildScores, SearchResult, pareto_front
from nascore.search.proposer import Proposer
from nascore.search.runner import Control, search_by_proposing
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.training.child import ChildJob
from nascore.training.loop import train
from nascore.training.prediction import accuracy_and_score

SPACE = ChainSpaceConfig(num_layers=2)
OTHERS: tuple[Objective, ...] = ("balanced_accuracy", "macro_f1", "auroc")


def make_task(folder: Path, data: Path, objective: Objective, **changes: Any) -> SearchContext:
    search = SearchConfig(
        space=SPACE,
        budget=BudgetConfig(children=5),
        child=TrainingConfig(epochs=1, max_steps=2),
        objective=objective,
    )
    return SearchContext(
        method="random",
        seeds=Seeds(0),
        space=make_space(SPACE),
        splits=load(data, torch.device("cpu")),
        shape=ImageShape(1, 8, 10),
        search=search.model_copy(update=changes),
        final=TrainingConfig(epochs=1, max_steps=2),
        options=RandomOptions(),
        controller=folder,
        state=folder,
    )


class Scripted:
    """Children with known scores: the first is the most accurate, the last finds most classes."""

    def planned_steps(self, context: SearchContext) -> int:
        return 1

    def steps_per_epoch(self, context: SearchContext) -> int:
        return 1

    def uses_one_thread(self, context: SearchContext) -> bool:
        return True

    def train(self, context: SearchContext, job: ChildJob) -> ChildScores:
        is_accuracy = context.search.objective == "accuracy"
        balanced = None if is_accuracy else 0.5 + 0.1 * job.number
        accuracy = 0.9 - 0.1 * job.number
        return ChildScores(
            accuracy,
            accuracy,
            num_params=100 + job.number,
            cost=job.cost,
            valid_score=balanced,
            train_score=balanced,
        )


class Ordered:
    """Records the objectives of its children."""

    def __init__(self) -> None:
        self.objectives: list[float | None] = []

    def suggest(self, number: int, pending: Any = None) -> Genotype:
        return Genotype(make_space(SPACE).identifier, (number % 8,) * 8)

    def update(self, child: Any) -> None:
        self.objectives.append(child.objective)


def scripted_search(
    folder: Path, data: Path, objective: Objective, **changes: Any
) -> tuple[SearchResult, Ordered]:
    proposer, reported = Ordered(), dict[str, float]()
    task = dataclasses.replace(
        make_task(folder, data, objective, **changes),
        callbacks=CallbacksOf(on_metrics=lambda metrics, step: reported.update(metrics)),
    )
    control: Proposer = Ordered()
    result = search_by_proposing(task, proposer, Control(control), training=Scripted())
    assert f"search/method/best_valid_{objective}" in reported
    assert reported["search/method/valid_accuracy"] == pytest.approx(0.5)
    return result, proposer


def test_the_objective_chooses_the_child_and_is_what_the_method_learns_from(
    tmp_path: Path, digits_folder: Path
) -> None:
    result, proposer = scripted_search(tmp_path, digits_folder, "balanced_accuracy")
    assert result.score == pytest.approx(0.9)
    assert result.valid_accuracy == pytest.approx(0.5), "an accuracy is never another figure"
    assert result.objective == "balanced_accuracy"
    assert proposer.objectives == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert pareto_front(result.arm.children) == (0, 1, 2, 3, 4), "score over parameters"
    assert result.verdict is not None
    assert result.verdict["figure"] == "balanced accuracy"
    assert "points of balanced accuracy" in result.verdict["statement"]
    assert SearchResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_accuracy_chooses_as_before_and_its_children_are_kept_as_before(
    tmp_path: Path, digits_folder: Path
) -> None:
    result, proposer = scripted_search(tmp_path, digits_folder, "accuracy")
    assert result.score == result.valid_accuracy == pytest.approx(0.9)
    assert proposer.objectives == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    (kept, *_) = result.to_dict()["arm"]["children"]
    assert "valid_score" not in kept["scores"]
    assert result.verdict is not None
    assert "points of accuracy" in result.verdict["statement"]


def test_a_cost_target_weights_the_objective_and_leaves_the_scores_as_measured(
    tmp_path: Path, digits_folder: Path
) -> None:
    cost = CostConfig(metric="num_params", target=1000.0, weight=1.0)
    result, proposer = scripted_search(tmp_path, digits_folder, "macro_f1", cost=cost)
    children = result.arm.children
    for child in children:
        assert child.scores is not None
        assert child.scores.cost is not None
        factor = 1000.0 / child.scores.cost
        assert child.score == pytest.approx(0.5 + 0.1 * child.number)
        assert child.valid_accuracy == pytest.approx(0.9 - 0.1 * child.number)
        assert child.objective == pytest.approx(child.score * factor)
        assert child.train_objective == pytest.approx(child.score * factor)
    assert proposer.objectives == [child.objective for child in children]
    best = max(children, key=lambda child: child.objective or 0.0)
    assert best.number != 4, "the cost decides here, not the score"
    assert result.genotype == best.genotype
    assert result.score == best.score


@pytest.mark.parametrize("objective", OTHERS)
def test_a_training_is_the_same_whatever_is_measured(
    objective: Objective, digits_folder: Path
) -> None:
    splits = load(digits_folder, torch.device("cpu"))
    weights, scores = [], []
    for one in ("accuracy", objective):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        training = train(
            network,
            splits.train,
            TrainingConfig(epochs=2),
            generator=torch.Generator().manual_seed(0),
            valid=splits.valid,
            objective=one,
        )
        weights.append(torch.cat([p.flatten() for p in network.parameters()]))
        scores.append(training)
    assert torch.equal(*weights)
    plain, other = scores
    assert plain.valid_accuracy == other.valid_accuracy == plain.valid_score
    accuracy, score = accuracy_and_score(network, splits.valid, objective)
    assert (other.valid_accuracy[-1], other.valid_score[-1]) == (accuracy, score)
    assert 0 < score <= 1
    assert (score == accuracy) == (objective == "balanced_accuracy"), "as many of each digit"
    assert other.train_score[-1] != other.train_accuracy[-1]


def shared(folder: Path, data: Path, method: str) -> SearchContext:
    return shared_tasks.make_task(folder, data, method)


def nasib(folder: Path, data: Path, method: str) -> SearchContext:
    return nasib_tasks.make_task(folder, data)


@pytest.mark.parametrize(
    ("method", "make"), [("enas", shared), ("random-ws", shared), ("nasib", nasib)]
)
@pytest.mark.parametrize("objective", ["macro_f1", "auroc"])
def test_searches_with_shared_weights_follow_it(
    method: str,
    make: Callable[[Path, Path, str], SearchContext],
    objective: Objective,
    tmp_path: Path,
    digits_folder: Path,
) -> None:
    task = make(tmp_path / "task", digits_folder, method)
    search = task.search.model_copy(update={"objective": objective})
    training = CommonTrainingConfig(class_weights="balanced", sampling="balanced")
    splits = dataclasses.replace(task.splits, train=task.splits.train.balanced(training))
    task = dataclasses.replace(task, search=search, training=training, splits=splits)
    module = METHODS[method].load()
    module.pretrain(task)
    result = module.search(task)
    assert result.objective == objective
    assert 0 < result.score <= 1
    assert result.score != result.valid_accuracy
    for child in result.arm.children:
        assert child.scores is not None
        assert child.scores.valid_score is not None


def test_what_is_kept_belongs_to_its_objective_and_balance() -> None:
    assert objective_settings("accuracy", CommonTrainingConfig()) == {}, (
        "as in what earlier versions have kept"
    )
    names = set(OBJECTIVES) - {"accuracy"}
    assert {
        objective_settings(name, CommonTrainingConfig())["objective"] for name in names
    } == names
    assert "training" in objective_settings("accuracy", CommonTrainingConfig(sampling="balanced"))
