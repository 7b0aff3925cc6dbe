"""How often, after which pause, and after which ends work is started again."""

import pytest

from components.ending import End, Kind
from components.supervisor.restarts import Restarts

KILLED = End("search", "crash", "killed by SIGKILL")


def pauses(restarts: Restarts, ends: list[End], *, lasted_s: float = 1.0) -> list[float | None]:
    return [restarts.pause_after(end, lasted_s=lasted_s) for end in ends]


def test_the_pause_doubles_up_to_a_minute() -> None:
    found = pauses(Restarts(limit=20, pause_s=2), [KILLED] * 8)
    assert found == [2, 4, 8, 16, 32, 60, 60, 60]


def test_the_pause_is_short_again_after_a_try_that_lasted() -> None:
    restarts = Restarts(limit=20, pause_s=2)
    assert pauses(restarts, [KILLED] * 3) == [2, 4, 8]
    assert restarts.pause_after(KILLED, lasted_s=39) == 16, "less than five times the pause"
    assert restarts.pause_after(KILLED, lasted_s=81) == 2
    assert restarts.pause_after(KILLED, lasted_s=11) == 2
    assert restarts.pause_after(KILLED, lasted_s=9) == 4, "it had hardly started"


def test_kills_are_counted_to_the_limit_and_errors_to_three() -> None:
    assert pauses(Restarts(limit=4, pause_s=0), [KILLED] * 5) == [0, 0, 0, 0, None]
    error = End("search", "crash", "KeyError: x")
    assert pauses(Restarts(limit=4, pause_s=0), [error] * 3) == [0, 0, None]
    other = End("search", "crash", "KeyError: y")
    assert pauses(Restarts(limit=9, pause_s=0), [error, error, other, error, error]) == [0] * 5


@pytest.mark.parametrize("kind", ["memory", "outage"])
def test_what_may_be_over_the_next_time_has_all_tries(kind: Kind) -> None:
    end = End("search", kind, "same words")
    assert pauses(Restarts(limit=4, pause_s=0), [end] * 5) == [0, 0, 0, 0, None]


@pytest.mark.parametrize("kind", ["input", "stopped"])
def test_what_no_other_try_changes_is_final(kind: Kind) -> None:
    assert Restarts(limit=4, pause_s=0).pause_after(End("x", kind, "why"), lasted_s=1) is None
