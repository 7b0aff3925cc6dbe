"""Releases the children of an ended run: closes their trials, so that they may be tried again.

Workers close the trials of dead workers when they read the study. After the end of a run no worker
reads it, and trials would stay RUNNING for ever.
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
    """Outcome for the trials that were RUNNING, by their numbers in the study.

    Attributes:
        returned: had no outcome; a resumed search tries their children again.
        completed: had an outcome, and were closed with it.
        left: belong to workers that are alive, or may be.
    """

    returned: tuple[int, ...] = ()
    completed: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


def give_back_all(
    url: str, studies: Mapping[str, bool], *, worker_timeout_s: int, retry_timeout_s: float
) -> dict[str, GivenBack]:
    """Close the RUNNING trials of several studies of one database, which is not created.

    Args:
        url: as `nascore.search.database_url.resolve_url` returns it.
        studies: whether each, by name, belongs to the ended run alone.
        worker_timeout_s: a worker without a heartbeat for so long counts as dead.
        retry_timeout_s: how long an unreachable database is retried.

    Raises:
        ResourceUnavailable: the database cannot be reached.
        ServiceUnavailable: it became unreachable.
    """
    place = make_url(url)
    if place.get_backend_name() == "sqlite" and not Path(place.database or "").is_file():
        return {}  # opening would create it
    with contextlib.closing(
        Storage(url, worker_timeout_s=worker_timeout_s, retry_timeout_s=retry_timeout_s)
    ) as storage:
        return {name: give_back(storage, name, alone=alone) for name, alone in studies.items()}


def give_back(storage: Storage, name: str, *, alone: bool) -> GivenBack:
    """Close the RUNNING trials of a study; a missing study is not created.

    Args:
        name: of the study.
        alone: the study belongs to the ended run alone, so no worker uses it. Otherwise only trials
            whose workers are dead or silent are closed.

    Raises:
        ServiceUnavailable: the database does not answer.
    """
    try:
        study_id: int = storage.call_with_retries(storage.optuna.get_study_id_from_name, name)
    except KeyError:
        return GivenBack()
    running = _running(storage, study_id)
    silent = storage.silent_trials(study_id) if running and not alone else set()
    # Read after the search for silent workers: one may have stored its outcome just before.
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
    """Return the ids of the trials that have not ended, without reading their attributes."""

    def ids() -> list[int]:
        trials = read(storage.optuna, study_id, after=-1, among=(), keys=())
        return [trial.id for trial in trials if not trial.state.is_finished()]

    return storage.call_with_retries(ids)


def _read(storage: Storage, study_id: int, among: Collection[int]) -> Iterator[Trial]:
    if among:
        trials = read(storage.optuna, study_id, after=max(among), among=among, keys=KEYS)
        yield from (trial for trial in trials if trial.id in set(among))
