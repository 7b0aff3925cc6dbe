"""Trials of ended runs are closed, on SQLite and on PostgreSQL; the death of workers is played."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import make_child
from optuna.trial import TrialState
from postgres import Postgres
from sqlalchemy import text

from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search.attempts import Attempt
from nascore.search.give_back import GivenBack, give_back
from nascore.search.study import Study
from nascore.search.study_storage import Storage

IDENTITY = {"method": "random", "space": "s", "seed": 0}
NAME = "key/method"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new_database()


@pytest.fixture
def study(url: str) -> Iterator[Study]:
    """Of a worker in a pod of another node, of which this process knows nothing."""
    storage = Storage(url, worker_timeout_s=60)
    storage.worker = dataclasses.replace(storage.worker, host="elsewhere")
    yield Study(storage, NAME, IDENTITY)
    storage.close()


@pytest.fixture
def closing(url: str, study: Study) -> Iterator[Storage]:
    """As the process sees the study that closes the run."""
    storage = Storage(url, worker_timeout_s=60)
    yield storage
    storage.close()


def begin(study: Study) -> Attempt:
    attempt = study.start(lambda ended, ahead: True)
    assert attempt is not None
    study.propose(attempt, Genotype("s", (attempt.number,)))
    return attempt


def ended(number: int) -> Child:
    now = time.time()
    genotype = Genotype("s", (number,))
    return make_child(number, genotype, 0.5, started_s=now, ended_s=now, num_steps=3)


def states(study: Study) -> list[TrialState]:
    return [trial.state for trial in study._study.get_trials(deepcopy=False)]


def grow_silent(study: Study, trial: Attempt, *, seconds: int) -> None:
    """As if the worker of a trial had last been heard of so long ago."""
    engine = study._shared.optuna.engine
    clock = (
        "datetime('now', :ago)"
        if engine.dialect.name == "sqlite"
        else "now() + CAST(:ago AS interval)"
    )
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE trial_heartbeats SET heartbeat = {clock} WHERE trial_id = :trial"),
            {"ago": f"-{seconds} seconds", "trial": trial.trial_id},
        )


def die(study: Study) -> None:
    study._shared._heart.stop()


def test_all_trials_of_a_run_that_has_its_own_study_are_given_back_at_once(
    study: Study, closing: Storage
) -> None:
    study.finish(begin(study), ended(0))
    begin(study)
    begin(study)
    die(study)
    assert states(study) == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING]
    assert give_back(closing, NAME, alone=True) == GivenBack(returned=(1, 2))
    assert states(study) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    assert give_back(closing, NAME, alone=True) == GivenBack(), "a second time changes nothing"


def test_a_child_whose_outcome_was_written_is_complete(study: Study, closing: Storage) -> None:
    attempt = begin(study)
    study._set(attempt.trial_id, "child", ended(0).to_dict())  # and died before it closed the trial
    die(study)
    assert give_back(closing, NAME, alone=True) == GivenBack(completed=(0,))
    assert states(study) == [TrialState.COMPLETE]
    assert study._study.get_trials(deepcopy=False)[0].value == 0.5


def test_what_was_given_back_is_tried_again_under_its_number(
    study: Study, closing: Storage, url: str
) -> None:
    begin(study)
    die(study)
    give_back(closing, NAME, alone=True)
    storage = Storage(url)
    later = Study(storage, NAME, IDENTITY).start(lambda ended, ahead: True)
    storage.close()
    assert later is not None
    assert (later.number, later.genotype) == (0, Genotype("s", (0,)))


def test_in_a_shared_study_workers_that_are_alive_keep_their_trials(
    study: Study, closing: Storage
) -> None:
    silent, alive = begin(study), begin(study)
    die(study)
    grow_silent(study, silent, seconds=90)
    grow_silent(study, alive, seconds=20)
    assert give_back(closing, NAME, alone=False) == GivenBack(returned=(0,), left=(1,))
    assert states(study) == [TrialState.FAIL, TrialState.RUNNING]


def test_a_study_that_is_not_there_is_not_made(closing: Storage) -> None:
    assert give_back(closing, "other/method", alone=True) == GivenBack()
    names = [study.study_name for study in closing.optuna.get_all_studies()]
    assert names == [NAME]
