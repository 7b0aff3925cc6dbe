"""Pushes cost less than a hundredth of the time."""

import pytest

from components.run_state.schedule import PushSchedule


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(("seconds", "pause"), [(0.01, 30), (0.3, 30), (1.0, 100), (60.0, 6000)])
def test_the_pause_is_a_hundred_times_the_push_and_at_least_30_s(
    clock: Clock, seconds: float, pause: float
) -> None:
    schedule = PushSchedule(clock=clock)
    schedule.pushed(seconds)
    clock.now = pause - 0.01
    assert not schedule.is_due()
    clock.now = pause
    assert schedule.is_due()


def test_nothing_is_pushed_in_the_first_seconds(clock: Clock) -> None:
    schedule = PushSchedule(clock=clock)
    assert not schedule.is_due()
    assert schedule.seconds_left() == 30


def test_the_share_of_a_day_stays_under_a_hundredth(clock: Clock) -> None:
    schedule = PushSchedule(clock=clock)
    durations = iter([0.1, 2.0, 0.5, 4.0, 1.0] * 1000)
    start_s, spent_s = clock.now, 0.0
    while clock.now < 86_400:
        clock.now += 1
        if schedule.is_due():
            seconds = next(durations)
            clock.now += seconds
            schedule.pushed(seconds)
            spent_s += seconds
    assert 0.001 < spent_s / (clock.now - start_s) < 0.01


def test_a_push_that_only_waited_is_tried_again_soon(clock: Clock) -> None:
    schedule = PushSchedule(clock=clock)
    schedule.failed(90.0)
    assert schedule.seconds_left() == 90
