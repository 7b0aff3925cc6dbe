"""Retraining while the world breaks: a short form of `benchmarks/ten_rounds.py`."""

import pytest
from broken_rounds import GOOD, Break, World, rounds, variables
from round_breaks import BREAKS
from services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def named(word: str) -> Break:
    (found,) = (one for one in BREAKS if word in one.name)
    return found


def test_no_broken_round_leaves_the_registry_unsound_or_blocks_the_next(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(services).items():
        monkeypatch.setenv(name, value)
    breaks = (
        named("files are gone"),
        named("password of MLflow has expired"),
        named("version is deleted"),
    )
    outcomes = list(rounds(World(services), breaks))
    for name, outcome in outcomes:
        assert outcome.faults == (), (name, outcome)
        assert outcome.open_runs == (), (name, outcome)
        if "password" in name:
            assert outcome.status == 2, outcome
            assert not outcome.is_promoted
            assert outcome.seconds < 60, "nothing was trained"
        else:
            assert outcome.status == 0, outcome
            assert outcome.is_promoted, (name, outcome)
    assert [name for name, _ in outcomes].count(GOOD) == 2
