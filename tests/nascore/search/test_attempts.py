"""What the trials of a study say of its children, without a database."""

from typing import Any

from children import make_child
from optuna.trial import TrialState

from nascore.genotype import Genotype
from nascore.search.attempts import (
    ANNOUNCED,
    CHILD,
    GENOTYPE,
    RETRY,
    WITHDRAWN,
    Attempt,
    AttemptHistory,
)
from nascore.search.trial_reader import Trial

GENOTYPES = [Genotype("s", (n,)) for n in range(4)]


def trial(number: int, state: TrialState = TrialState.RUNNING, **attributes: Any) -> Trial:
    """Return a trial with the id 10 + number."""
    return Trial(10 + number, number, state, {ANNOUNCED: 1.0, **attributes})


def ended(number: int, child: int, *, at_s: float) -> Trial:
    made = make_child(child, GENOTYPES[child], 0.5, started_s=0.0, ended_s=at_s)
    return trial(number, TrialState.COMPLETE, **{CHILD: made.to_dict()})


def test_children_are_numbered_by_their_first_attempts() -> None:
    history = AttemptHistory()
    history.record(trial(0))
    history.record(trial(1, **{RETRY: 0}))
    history.record(trial(2))
    assert [child.number for child in history.open_children()] == [0, 1]
    assert history.own_attempt(11).number == 0
    assert history.own_attempt(12).number == 1
    assert history.last_id == 12


def test_children_come_in_the_order_in_which_they_ended_and_once() -> None:
    history = AttemptHistory()
    history.record(ended(0, 0, at_s=3.0))
    history.record(ended(1, 1, at_s=2.0))
    assert [child.number for child in history.children] == [1, 0]
    assert [child.number for child in history.take_new_children()] == [1, 0]
    history.record(ended(2, 2, at_s=1.0))
    assert [child.number for child in history.take_new_children()] == [2]
    assert [child.number for child in history.children] == [2, 1, 0]


def test_the_first_outcome_of_a_child_counts() -> None:
    history = AttemptHistory()
    history.record(ended(0, 0, at_s=1.0))
    second = make_child(0, GENOTYPES[0], 0.9, started_s=0.0, ended_s=2.0)
    history.record(trial(1, TrialState.COMPLETE, **{RETRY: 0, CHILD: second.to_dict()}))
    assert [child.objective for child in history.children] == [0.5]


def test_an_attempt_knows_the_genotype_and_the_number_of_earlier_ones() -> None:
    history = AttemptHistory()
    proposed = GENOTYPES[0].to_dict()
    history.record(trial(0, TrialState.FAIL, **{GENOTYPE: proposed}))
    history.record(trial(1, TrialState.FAIL, **{RETRY: 0, WITHDRAWN: True}))
    assert history.first_abandoned() == 0
    history.own.add(12)
    history.record(trial(2, **{RETRY: 0}))
    assert history.own_attempt(12) == Attempt(12, 0, tries=2, genotype=GENOTYPES[0])
    assert history.first_abandoned() is None


def test_the_later_of_two_attempts_sees_the_earlier() -> None:
    history = AttemptHistory()
    history.record(trial(0))
    history.record(trial(1, **{RETRY: 0}))
    assert history.is_taken(history.own_attempt(11))
    history.unsettled[10].is_dead = True
    assert not history.is_taken(history.own_attempt(11))
    history.record(trial(2))
    assert [child.number for child in history.ahead_of(1)] == [0]
    history.unsettled[11].is_dead = True
    assert [child.number for child in history.ahead_of(1)] == [0], "it is begun, and comes first"
