"""A study as its workers see it; workers here are objects of one process, whose death is played."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import optuna
import pytest
from children import make_child
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search import optuna_private
from nascore.search.attempts import ANNOUNCED, Attempt, OpenChild
from nascore.search.pruning import make_pruner
from nascore.search.study import Study
from nascore.search.study_identity import check
from nascore.search.study_storage import Storage
from nascore.search.worker_identity import WorkerIdentity

IDENTITY = {"method": "random", "space": "s", "seed": 0}
_opened: list[Storage] = []


@pytest.fixture(autouse=True)
def closed_at_the_end() -> Iterator[None]:
    """End the heartbeats of children that a test leaves without an end."""
    yield
    while _opened:
        _opened.pop().close()


def open_study(
    folder: Path, *, name: str = "method", timeout_s: int = 60, **kwargs: object
) -> Study:
    storage = Storage(f"sqlite:///{folder / 'study.db'}", worker_timeout_s=timeout_s)
    _opened.append(storage)
    return Study(storage, name, IDENTITY, **kwargs)  # type: ignore[arg-type]


def genotype(number: int) -> Genotype:
    return Genotype("s", (number,))


def always(children: Sequence[Child], ahead: Sequence[OpenChild]) -> bool:
    return True


def at_most(count: int) -> Callable[[Sequence[Child], Sequence[OpenChild]], bool]:
    return lambda children, ahead: len(children) + len(ahead) < count


def begin(study: Study) -> Attempt:
    attempt = study.start(always)
    assert attempt is not None
    study.propose(attempt, attempt.genotype or genotype(attempt.number))
    return attempt


def ended(number: int, accuracy: float | None = 0.5) -> Child:
    now = time.time()
    return make_child(number, genotype(number), accuracy, started_s=now, ended_s=now, num_steps=3)


def dying(folder: Path, **kwargs: object) -> Study:
    """A study whose worker is dead already, as others will find."""
    study = open_study(folder, **kwargs)  # type: ignore[arg-type]
    study._shared.worker = dataclasses.replace(study._shared.worker, pid=2**22 - 1)
    return study


def trials(study: Study) -> list[optuna.trial.FrozenTrial]:
    return study._study.get_trials(deepcopy=False)


# --- one worker after the other ---------------------------------------------------------------


def test_children_survive_the_process_in_order(tmp_path: Path) -> None:
    study, made = open_study(tmp_path), []
    for number in range(3):
        attempt = begin(study)
        assert attempt.number == number
        made.append(ended(number, None if number == 1 else 0.5))
        study.finish(attempt, made[-1])
    assert open_study(tmp_path).children() == made
    assert open_study(tmp_path, name="control").children() == []


def test_the_child_of_a_dead_worker_is_tried_again_under_its_number(tmp_path: Path) -> None:
    dead = dying(tmp_path)
    dead.finish(begin(dead), ended(0))
    assert begin(dead).number == 1
    study = open_study(tmp_path)
    again = study.start(always)
    assert again is not None
    assert (again.number, again.tries, again.genotype) == (1, 2, genotype(1))
    study.finish(again, ended(1))
    assert begin(study).number == 2, "a second try takes no number of a child"
    assert [child.number for child in open_study(tmp_path).children()] == [0, 1]
    assert [trial.state for trial in trials(study)][:3] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]


@pytest.mark.parametrize("proposed", [False, True])
def test_death_between_announcement_and_training_loses_nothing(
    tmp_path: Path, proposed: bool
) -> None:
    dead = dying(tmp_path)
    attempt = dead.start(always)
    assert attempt is not None
    if proposed:
        dead.propose(attempt, genotype(7))
    again = open_study(tmp_path).start(always)
    assert again is not None
    assert again.number == 0
    assert again.genotype == (genotype(7) if proposed else None)


def test_a_child_with_an_outcome_is_never_trained_twice(tmp_path: Path) -> None:
    """The outcome comes first and the end of the trial after: death in between loses nothing."""
    dead = dying(tmp_path)
    attempt, child = begin(dead), ended(0)
    dead._set(attempt.trial_id, "child", child.to_dict())  # the first half of `finish`
    study = open_study(tmp_path)
    assert study.children() == [child]
    assert begin(study).number == 1
    assert trials(study)[0].state == TrialState.COMPLETE
    assert trials(study)[0].value == 0.5


def test_an_outcome_that_was_written_just_before_death_ends_the_trial_as_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome comes after others have read the trial, and before they ask who lives."""
    dead = dying(tmp_path)
    attempt, child = begin(dead), ended(0)
    study, is_gone = open_study(tmp_path), WorkerIdentity.is_gone

    def write_and_die(worker: WorkerIdentity) -> bool:
        monkeypatch.setattr(WorkerIdentity, "is_gone", is_gone)
        dead._set(attempt.trial_id, "child", child.to_dict())
        return is_gone(worker)

    monkeypatch.setattr(WorkerIdentity, "is_gone", write_and_die)
    assert study.children() == [child]
    assert trials(study)[0].state == TrialState.COMPLETE


def test_a_child_that_was_withdrawn_is_tried_again_and_the_try_does_not_count(
    tmp_path: Path,
) -> None:
    study = open_study(tmp_path)
    study.withdraw(begin(study))
    again = begin(open_study(tmp_path))
    assert (again.number, again.tries) == (0, 1)


def test_tries_are_counted(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        attempt = begin(dying(tmp_path))
        assert (attempt.number, attempt.tries) == (0, count)


def test_a_study_of_another_search_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    storage = open_study(tmp_path)._shared
    with pytest.raises(InputError, match="seed was 0"):
        Study(storage, "method", {**IDENTITY, "seed": 1})


def test_a_study_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_study(tmp_path)
    monkeypatch.setattr("nascore.search.study_identity.VERSION", 4)
    with pytest.raises(InputError, match=r"another version .* it is version 3, 4 is needed"):
        open_study(tmp_path)


# --- workers side by side ---------------------------------------------------------------------


def test_workers_never_share_a_child_and_know_of_each_other(tmp_path: Path) -> None:
    studies = [open_study(tmp_path) for _ in range(3)]
    attempts = [begin(study) for study in studies]
    assert [attempt.number for attempt in attempts] == [0, 1, 2]
    studies[2].children()
    assert [c.number for c in studies[2].open_children()] == [0, 1, 2]
    for study, attempt in zip(studies, attempts, strict=True):
        study.finish(attempt, ended(attempt.number))
    assert [c.number for c in studies[0].new_children()] == [0, 1, 2]
    assert studies[0].new_children() == []
    assert studies[0].open_children() == []


def test_of_two_that_take_over_the_same_child_the_later_withdraws(tmp_path: Path) -> None:
    begin(dying(tmp_path))
    first, second = open_study(tmp_path), open_study(tmp_path)
    assert first.children() == second.children() == []
    assert first._announce(0, always) is not None
    assert second._announce(0, always) is None, "it has not looked since the death, and announces"
    assert [trial.state for trial in trials(second)] == [
        TrialState.FAIL,
        TrialState.RUNNING,
        TrialState.FAIL,
    ]


def test_a_limit_holds_when_workers_come_at_once(tmp_path: Path) -> None:
    """Both see room for one more; the later one finds the other ahead of it."""
    first, second = open_study(tmp_path), open_study(tmp_path)
    assert first.start(at_most(1)) is not None
    assert second._announce(None, at_most(1)) is None
    assert second.start(at_most(1)) is None
    more = second.start(at_most(2))
    assert more is not None
    assert more.number == 1, "the withdrawn child is the first to be tried when there is room"


def test_a_worker_that_was_thought_dead_brings_its_result_all_the_same(tmp_path: Path) -> None:
    slow = open_study(tmp_path)
    attempt = begin(slow)
    slow._study._storage.set_trial_state_values(attempt.trial_id, TrialState.FAIL)
    slow.finish(attempt, ended(0))
    assert [child.number for child in open_study(tmp_path).children()] == [0]


def test_a_result_that_comes_second_is_not_counted(tmp_path: Path) -> None:
    slow, quick = open_study(tmp_path), open_study(tmp_path)
    attempt = begin(slow)
    slow._study._storage.set_trial_state_values(attempt.trial_id, TrialState.FAIL)
    again = begin(quick)
    assert again.number == 0
    quick.finish(again, ended(0, 0.9))
    slow.finish(attempt, ended(0, 0.1))
    assert [child.valid_accuracy for child in open_study(tmp_path).children()] == [0.9]
    assert len(slow.children()) == 1


# --- who is alive -----------------------------------------------------------------------------


def test_silence_is_death_on_other_machines_only_after_the_timeout(tmp_path: Path) -> None:
    far = open_study(tmp_path, timeout_s=6)
    far._shared.worker = WorkerIdentity("far", "another host", 1, 0.0)
    attempt = begin(far)
    near = open_study(tmp_path, timeout_s=6)
    near.children()
    assert [child.number for child in near.open_children()] == [0]
    far._shared.rest(attempt.trial_id)  # no more signs of life
    with_old_sign(far, attempt)
    near._shared._listened_s.clear()
    again = begin(near)
    assert (again.number, again.tries) == (0, 2)


def with_old_sign(study: Study, attempt: Attempt) -> None:
    """Moves the last sign of life of a try ten seconds into the past."""
    from sqlalchemy import text

    with study._shared.optuna.engine.begin() as connection:  # type: ignore[union-attr]
        connection.execute(
            text(
                "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-10 seconds') "
                "WHERE trial_id = :id"
            ),
            {"id": attempt.trial_id},
        )


def test_signs_of_life_are_given_while_a_child_is_trained(tmp_path: Path) -> None:
    study = open_study(tmp_path, timeout_s=6)
    attempt = begin(study)
    with_old_sign(study, attempt)
    assert study._shared.optuna._get_stale_trial_ids(study._id) == [attempt.trial_id]  # type: ignore[union-attr]
    time.sleep(1.3)
    assert study._shared.optuna._get_stale_trial_ids(study._id) == []  # type: ignore[union-attr]


# --- pruning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["median", "successive-halving", "hyperband"])
def test_a_hopeless_child_is_pruned_and_a_good_one_is_not(tmp_path: Path, name: str) -> None:
    study = open_study(tmp_path, pruner=make_pruner(name, 9))  # type: ignore[arg-type]
    for number in range(12):
        attempt = begin(study)
        for epoch in range(1, 9):
            assert not study.should_prune(attempt, epoch, 0.5 + number / 100 + epoch / 1000)
        study.finish(attempt, ended(attempt.number, 0.6 + number / 100))
    bad = begin(study)
    assert any(study.should_prune(bad, epoch, 0.1) for epoch in range(1, 9))
    child = dataclasses.replace(ended(bad.number, None), status="pruned")
    study.finish(bad, child)
    assert trials(study)[-1].state == TrialState.PRUNED
    assert open_study(tmp_path).children()[-1] == child


# --- a worker that is thought dead --------------------------------------------------------------


def test_a_worker_whose_try_was_closed_before_it_proposed_gives_it_up(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    attempt = study.start(always)
    assert attempt is not None
    study._study._storage.set_trial_state_values(attempt.trial_id, TrialState.FAIL)
    assert not study.propose(attempt, genotype(0))
    study.withdraw(attempt)
    again = begin(study)
    assert again.number == 0
    study.finish(again, ended(0))
    assert [child.number for child in open_study(tmp_path).children()] == [0]


def test_nobody_is_buried_before_the_database_has_been_back_for_a_while(tmp_path: Path) -> None:
    far = open_study(tmp_path, timeout_s=6)
    far._shared.worker = WorkerIdentity("far", "another host", 1, 0.0)
    attempt = far.start(always)
    assert attempt is not None
    near = open_study(tmp_path, timeout_s=6)
    near._shared._trouble_s = time.monotonic()
    far._set(attempt.trial_id, ANNOUNCED, time.time() - 60)
    near.children()
    assert [child.number for child in near.open_children()] == [0]
    near._shared._trouble_s = -1e9
    near.children()
    assert near.open_children() == []


def test_no_new_child_takes_the_place_of_one_whose_worker_has_just_died(tmp_path: Path) -> None:
    """Of a budget of two, child 0 is left while a worker announces what turns out as child 2."""
    dead, other, late = (open_study(tmp_path) for _ in range(3))
    begin(dead)
    begin(other)
    dead._shared.worker.retire()
    assert late._announce(None, at_most(2)) is None
    again = late.start(at_most(2))
    assert again is not None
    assert again.number == 0


def test_an_announcement_whose_answer_was_lost_leaves_no_hole(tmp_path: Path) -> None:
    """The outage swallows the answer, so it is announced again; the first one is tried first."""
    study = open_study(tmp_path)
    real, calls = study._storage.create_new_trial, []

    def loses_the_first_answer(*args: object) -> int:
        trial_id: int = real(*args)  # type: ignore[arg-type]
        calls.append(trial_id)
        if len(calls) == 1:
            raise OperationalError("INSERT", {}, Exception("server closed the connection"))
        return trial_id

    study._storage.create_new_trial = loses_the_first_answer  # type: ignore[method-assign]
    attempt = study.start(at_most(1))
    assert attempt is not None
    assert attempt.number == 0


def test_a_try_that_was_closed_as_soon_as_it_was_announced_does_no_harm(tmp_path: Path) -> None:
    """An outage right behind the announcement: others come back first and find it abandoned."""
    study = open_study(tmp_path)
    real = study._storage.create_new_trial

    def closed_at_once(*args: object) -> int:
        trial_id: int = real(*args)  # type: ignore[arg-type]
        study._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        study._storage.create_new_trial = real  # type: ignore[method-assign]
        return trial_id

    study._storage.create_new_trial = closed_at_once  # type: ignore[method-assign]
    attempt = study.start(always)
    assert attempt is not None
    assert not study.propose(attempt, genotype(0))
    study.withdraw(attempt)
    assert begin(study).number == 0


def test_a_worker_of_another_machine_that_never_began_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died before its first sign of life, so it cannot fall silent."""
    far = open_study(tmp_path, timeout_s=6)
    far._shared.worker = WorkerIdentity("far", "another host", 1, 0.0)
    monkeypatch.setattr(far._shared, "keep_alive", lambda trial_id: None)
    attempt = far.start(always)
    assert attempt is not None
    near = open_study(tmp_path, timeout_s=6)
    near.children()
    assert [child.number for child in near.open_children()] == [0]
    far._set(attempt.trial_id, ANNOUNCED, time.time() - 60)
    again = near.start(always)
    assert again is not None
    assert (again.number, again.tries) == (0, 2)


@pytest.mark.parametrize("num_trials", [0, 2])
def test_a_study_that_another_program_made_is_refused_and_stays_as_it_is(
    tmp_path: Path, num_trials: int
) -> None:
    made = optuna.create_study(
        storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="method", direction="minimize"
    )
    made.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=num_trials)
    storage = Storage(f"sqlite:///{tmp_path / 'study.db'}")
    for refuse in (lambda: check(storage, "method", IDENTITY), lambda: open_study(tmp_path)):
        with pytest.raises(InputError, match="another program with Optuna"):
            refuse()
    assert made.user_attrs == {}
    assert len(made.trials) == num_trials
    storage.close()


def test_a_trial_that_another_program_added_is_reported(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study._study.ask()
    with pytest.raises(InputError, match="another program has added trial 0"):
        study.start(always)


@pytest.mark.parametrize("hours", [1, -1])
def test_nobody_is_dead_because_a_clock_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """The clock of SQLite is that of the machine; here its query is shifted."""
    study, other = open_study(tmp_path), open_study(tmp_path)
    attempt = begin(study)
    elsewhere = dataclasses.replace(study._shared.worker, host="elsewhere")
    study._set(attempt.trial_id, "worker", elsewhere.to_dict())
    other.children()
    (open_child,) = other.open_children()
    started_s = time.time() - open_child.started_s
    other._shared._listened_s.clear()  # its next query is due
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    silent = {attempt.trial_id} if hours > 0 else set()
    monkeypatch.setattr(optuna_private, "stale_trials", lambda *_: silent)
    assert other.children() == []
    (open_child,) = other.open_children()
    assert time.time() - open_child.started_s == pytest.approx(started_s, abs=2)
    assert not other._shared.is_settled()
    assert study.propose(attempt, genotype(0)), "its trial is still open"
