"""Gives the children of an ended run back: their trials are closed, and may be tried again.

Workers close the trials of others that are gone when they come to the study. Where none comes any
more, as the run has ended, trials would stay RUNNING for ever.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from nascore.search.attempts import CHILD, KEYS
from nascore.search.study import close, is_dead
from nascore.search.study_storage import Storage
from nascore.search.trial_reader import Trial, read


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What became of the trials that were RUNNING, by their numbers in the study.

    Attributes:
        returned: had no outcome; whoever continues the search tries their children again.
        completed: had an outcome, and are closed with it.
        left: belong to workers that are alive, or may be.
    """

    returned: tuple[int, ...] = ()
    completed: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


def give_back_all(
    url: str, studies: Mapping[str, bool], *, worker_timeout_s: int, patience_s: float
) -> dict[str, GivenBack]:
    """Close the RUNNING trials of several studies of one database; nothing is made there.

    Args:
        url: as `nascore.search.database_url.resolve_url` gives it.
        studies: whether each, by name, belongs to the ended run alone.
        worker_timeout_s: a worker that gives no sign of life for so long counts as dead.
        patience_s: for a database that is away.

    Raises:
        ResourceUnavailable: the database cannot be reached.
        ServiceUnavailable: it went away.
    """
    place = make_url(url)
    if place.get_backend_name() == "sqlite" and not Path(place.database or "").is_file():
        return {}  # opening it would make it
    with contextlib.closing(
        Storage(url, worker_timeout_s=worker_timeout_s, patience_s=patience_s)
    ) as storage:
        return {name: give_back(storage, name, alone=alone) for name, alone in studies.items()}


def give_back(storage: Storage, name: str, *, alone: bool) -> GivenBack:
    """Close the RUNNING trials of a study; a study that is not there is not made.

    Args:
        name: of the study.
        alone: the study belongs to the ended run alone, so that nobody works on it. Otherwise only
            trials whose workers are gone or silent are closed.

    Raises:
        ServiceUnavailable: the database does not answer.
    """
    try:
        study_id: int = storage.call_with_retries(storage.optuna.get_study_id_from_name, name)
    except KeyError:
        return GivenBack()
    running = _running(storage, study_id)
    silent = storage.silent_trials(study_id) if running and not alone else set()
    # Read after the silent ones were found: a worker may have written its outcome just before.
    trials = storage.call_with_retries(lambda: list(_read(storage, study_id, running)))
    returned, completed, left = [], [], []
    for trial in trials:
        child = trial.attributes.get(CHILD)
        if child is not None:
            completed.append(trial.number)
        elif alone or is_dead(trial, storage, silent):
            returned.append(trial.number)
        else:
            left.append(trial.number)
            continue
        close(storage, trial.id, child)
    return GivenBack(tuple(returned), tuple(completed), tuple(left))


def _running(storage: Storage, study_id: int) -> list[int]:
    """Ids of the trials that have not ended; attributes, which are large, are not read."""

    def ids() -> list[int]:
        trials = read(storage.optuna, study_id, after=-1, among=(), keys=())
        return [trial.id for trial in trials if not trial.state.is_finished()]

    return storage.call_with_retries(ids)


def _read(storage: Storage, study_id: int, among: Collection[int]) -> Iterator[Trial]:
    if among:
        trials = read(storage.optuna, study_id, after=max(among), among=among, keys=KEYS)
        yield from (trial for trial in trials if trial.id in set(among))
