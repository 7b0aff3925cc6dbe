"""What a budget does to the search: worked values, order, ends."""

import pytest

from nascore.methods.nasib.options import ScheduleOptions

DEFAULTS = ScheduleOptions()


@pytest.mark.parametrize(
    ("steps", "share"), [(100, 0.15), (200, 0.20), (400, 0.25), (1000, 0.32), (10_000, 0.48)]
)
def test_the_exploring_share_follows_the_budget(steps: int, share: float) -> None:
    assert DEFAULTS.over(steps).exploring_share == pytest.approx(share, abs=0.006)


def test_it_has_ends() -> None:
    assert DEFAULTS.over(1).exploring_share == pytest.approx(0.1)
    assert DEFAULTS.over(10**9).exploring_share == pytest.approx(0.6)


def test_half_a_budget_explores_for_less_and_more_weakly() -> None:
    """Property 5: the share of steps with exploration, and its mean over u."""
    for steps in (200, 1000, 10_000):
        options = ScheduleOptions(warmup=0)
        whole, half = options.over(steps), options.over(steps // 2)
        shares = [place / 1000 for place in range(1000)]
        assert sum(half.exploration(u) > 0 for u in shares) < sum(
            whole.exploration(u) > 0 for u in shares
        )
        assert sum(map(half.exploration, shares)) < sum(map(whole.exploration, shares))


def test_it_warms_up_uniformly_and_ends_without_exploration() -> None:
    schedule = DEFAULTS.over(1000)
    assert schedule.exploration(0.0) == schedule.exploration(0.099) == 1.0
    assert 0 < schedule.exploration(0.1) < 1
    assert schedule.exploration(schedule.exploring_share) == schedule.exploration(1.0) == 0.0


def test_temperature_and_entropy_go_from_end_to_end() -> None:
    schedule = DEFAULTS.over(500)
    assert schedule.temperature(0.0) == pytest.approx(5.0)
    assert schedule.temperature(1.0) == pytest.approx(0.1)
    assert schedule.entropy_bonus(0.0) == pytest.approx(0.01)
    assert schedule.entropy_bonus(0.79) > 0 > schedule.entropy_bonus(0.81)
    assert schedule.entropy_bonus(1.0) == pytest.approx(-0.01)


@pytest.mark.parametrize("num_values", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("steps", [1, 50, 1000, 10**6])
def test_one_value_is_left_at_the_end(num_values: int, steps: int) -> None:
    schedule = DEFAULTS.over(steps)
    left = [schedule.num_left(place / 200, num_values) for place in range(201)]
    assert left[0] == num_values
    assert left == sorted(left, reverse=True)
    assert schedule.num_left(1.0, num_values) == 1
    assert set(left) == set(range(1, num_values + 1))


def test_nothing_is_dropped_while_it_explores() -> None:
    schedule = DEFAULTS.over(1000)
    assert schedule.num_left(schedule.exploring_share, 4) == 4
    assert min(schedule.milestones(4)) > schedule.exploring_share
