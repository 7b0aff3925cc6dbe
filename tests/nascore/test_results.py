"""Children and results as values: what they refuse, and what survives JSON."""

import json
from typing import Any

import pytest
from children import make_child

from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.results import Arm, Child, ChildScores, SearchResult, best_child, pareto_front

GENOTYPE = Genotype("s", (1, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a finished child has an objective"),
        ({"objective": 0.5, "failure": "loss is nan"}, "others a failure"),
        ({"status": "failed"}, "others a failure"),
        ({"status": "pruned", "failure": "pruned", "objective": 0.5}, "has an objective"),
        (
            {"status": "failed", "failure": "loss is nan", "scores": ChildScores(0.5)},
            "only a finished child has scores",
        ),
        ({"objective": float("nan")}, "must be finite"),
    ],
)
def test_a_child_whose_fields_contradict_each_other_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Child(number=0, genotype=GENOTYPE, **fields)


@pytest.mark.parametrize("name", ["valid_accuracy", "train_accuracy", "valid_score", "train_score"])
def test_scores_that_are_not_finite_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        ChildScores(**{"valid_accuracy": 0.5, name: float("inf")})


def test_what_was_not_measured_is_none_and_stays_so_in_json() -> None:
    child = Child.of_scores(0, GENOTYPE, ChildScores(0.5))
    assert (child.objective, child.train_objective, child.duration_s) == (0.5, None, None)
    assert child.to_dict()["scores"] == {"valid_accuracy": 0.5}
    assert Child.from_dict(json.loads(json.dumps(child.to_dict()))) == child


def test_the_factor_of_the_cost_is_in_the_objective_alone() -> None:
    scores = ChildScores(0.5, 0.75, valid_score=0.25, train_score=0.5)
    child = Child.of_scores(0, GENOTYPE, scores, cost_factor=0.5)
    assert (child.objective, child.train_objective) == (0.125, 0.25)
    assert (child.score, child.valid_accuracy) == (0.25, 0.5)


def test_the_best_child_has_the_highest_objective_and_is_the_earliest_of_equals() -> None:
    children = [make_child(n, GENOTYPE, value) for n, value in enumerate((None, 0.5, 0.7, 0.7))]
    cheap = Child.of_scores(4, GENOTYPE, ChildScores(0.4), cost_factor=2.0)
    assert best_child(children) == children[2]
    assert best_child([*children, cheap]) == cheap
    assert best_child(children[:1]) is None


def test_the_front_leaves_out_children_without_a_measured_cost() -> None:
    unmeasured = Child.of_scores(3, GENOTYPE, ChildScores(0.99))
    children = [make_child(n, GENOTYPE, value) for n, value in enumerate((0.5, 0.4, 0.6))]
    assert pareto_front([*children, unmeasured]) == (0, 2)


def result() -> SearchResult:
    children = (make_child(0, GENOTYPE, 0.5, num_steps=3), make_child(1, GENOTYPE, None))
    arm = Arm("random", children, 1.5)
    return SearchResult("random", 0, GENOTYPE, 0.5, arm, arm, {"outcome": "undecided"}, pareto=(0,))


def test_a_result_survives_json() -> None:
    data = json.loads(json.dumps(result().to_dict()))
    assert SearchResult.from_dict({**data, "step": {"seconds": 1.0}}) == result()


def test_a_result_of_another_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"another version of this program.*search again"):
        SearchResult.from_dict({**result().to_dict(), "version": 2})
