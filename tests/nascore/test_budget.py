import pytest

from nascore.budget import Budget
from nascore.config import BudgetConfig
from nascore.genotype import Genotype
from nascore.results import Child, ChildScores


def child(number: int, *, steps: int = 10, seconds: float = 1.0) -> Child:
    scores = ChildScores(0.5, 0.5, num_params=1, num_steps=steps, duration_s=seconds)
    return Child(number, Genotype("s", (0,)), scores)


def test_children_failed_ones_included_are_counted() -> None:
    budget = Budget(BudgetConfig(children=2))
    children = [child(0), Child(1, Genotype("s", (0,)), None, failure="loss is nan")]
    assert budget.allows(children[:1], child_steps=1)
    assert not budget.allows(children, child_steps=1)
    assert budget.spent_fraction(children) == 1


def test_a_child_whose_steps_do_not_fit_is_not_started() -> None:
    budget = Budget(BudgetConfig(steps=25))
    assert budget.allows([child(0)], child_steps=15)
    assert not budget.allows([child(0)], child_steps=16)


def test_a_child_that_cannot_finish_in_time_is_not_started() -> None:
    budget = Budget(BudgetConfig(seconds=10), charged_s=8.5)
    assert budget.allows([child(0, seconds=1.0)], child_steps=1)
    assert not budget.allows([child(0, seconds=2.0)], child_steps=1)
    assert not budget.is_overrun


def test_time_that_earlier_processes_spent_counts() -> None:
    budget = Budget(BudgetConfig(seconds=10))
    budget.resume([child(0, seconds=6), child(1, seconds=6)])
    assert not budget.allows([], child_steps=1)
    assert budget.is_overrun
    assert budget.spent_fraction([]) == pytest.approx(1.2, abs=0.01)


def test_gpu_hours_are_shared_by_the_devices() -> None:
    budget = Budget(BudgetConfig(gpu_hours=1), num_devices=4)
    assert budget.seconds_left == pytest.approx(900, abs=1)
