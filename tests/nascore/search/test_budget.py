import time

import pytest
from children import make_child

from nascore.config import BudgetConfig
from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search.attempts import OpenChild
from nascore.search.budget import Budget

GENOTYPE = Genotype("s", (0,))


def child(number: int, *, steps: int = 10, start: float = 0.0, seconds: float = 1.0) -> Child:
    return make_child(
        number, GENOTYPE, 0.5, started_s=start, ended_s=start + seconds, num_steps=steps
    )


def under_way(number: int, *, seconds: float = 0.0) -> OpenChild:
    return OpenChild(number, GENOTYPE, time.time() - seconds)


def test_children_failed_ones_included_are_counted_and_those_under_way() -> None:
    budget = Budget(BudgetConfig(children=2))
    failed = make_child(1, GENOTYPE, None)
    assert budget.fits([child(0)], [], child_steps=1)
    assert not budget.fits([child(0)], [under_way(1)], child_steps=1)
    assert not budget.fits([child(0), failed], [], child_steps=1)


def test_what_was_over_a_limit_and_not_trained_costs_nothing() -> None:
    budget = Budget(BudgetConfig(children=2))
    rejected = make_child(1, GENOTYPE, None, failure="too large", status="rejected")
    assert budget.fits([child(0), rejected, rejected], [], child_steps=1)


def test_a_child_whose_steps_do_not_fit_is_not_started() -> None:
    budget = Budget(BudgetConfig(steps=25))
    assert budget.fits([child(0)], [], child_steps=15)
    assert not budget.fits([child(0)], [], child_steps=16)
    assert budget.fits([child(0)], [under_way(1)], child_steps=7)
    assert not budget.fits([child(0)], [under_way(1)], child_steps=8)


def test_steps_of_failed_children_are_spent_too() -> None:
    failed = make_child(0, GENOTYPE, None, num_steps=20)
    assert not Budget(BudgetConfig(steps=25)).fits([failed], [], child_steps=10)


def test_a_child_that_cannot_finish_in_time_is_not_started() -> None:
    budget = Budget(BudgetConfig(seconds=10), prior_cost_s=8.5)
    assert budget.fits([child(0, seconds=1.0)], [], child_steps=1)
    assert not budget.fits([child(0, seconds=2.0)], [], child_steps=1)
    left = budget.cut_off_s([], [])
    assert left == pytest.approx(1.6, abs=0.05), "1.5 s and 1 % of ten"


def test_time_that_earlier_processes_spent_counts_once_for_all_workers() -> None:
    budget = Budget(BudgetConfig(seconds=10))
    budget.resume([child(0, start=0, seconds=6), child(1, start=2, seconds=5)])
    assert budget.before_s == 7
    assert budget.seconds_left([]) == pytest.approx(3, abs=0.05)
    budget.resume([child(0, start=0, seconds=6), child(1, start=100, seconds=6)])
    assert not budget.fits([], [], child_steps=1)
    assert (budget.cut_off_s([], []) or 0) < 0


def test_gpu_hours_are_those_of_all_workers_and_devices() -> None:
    budget = Budget(BudgetConfig(gpu_hours=1), num_devices=4)
    assert budget.seconds_left([], []) == pytest.approx(900, abs=1)
    assert budget.seconds_left([child(0, seconds=500)], []) == pytest.approx(400, abs=1)
    busy = [under_way(1, seconds=100)]
    assert budget.seconds_left([child(0, seconds=500)], busy) == pytest.approx(150, abs=1)
    assert budget.fits([child(0, seconds=140)], [], child_steps=1)
    assert not budget.fits([child(0, seconds=500)], busy, child_steps=1)


def test_a_count_has_no_end_in_time() -> None:
    assert Budget(BudgetConfig(children=3)).cut_off_s([child(0)], []) is None
