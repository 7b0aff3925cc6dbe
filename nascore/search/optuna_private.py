"""Names of Optuna outside its public interface; no other module of the product uses any.

Optuna may change them in any release, so its version is pinned exactly, and
tests/nascore/search/test_optuna_private.py fails where one is missing or works differently.
"""

from optuna import Study
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import (
    BaseModel,
    StudyModel,
    StudyUserAttributeModel,
    TrialModel,
    TrialUserAttributeModel,
)
from optuna.trial import FrozenTrial
from sqlalchemy import Table

ALL_TABLES: frozenset[str] = frozenset(BaseModel.metadata.tables) | {"alembic_version"}
"""Names of the tables that a storage makes."""
STUDIES: Table = StudyModel.__table__
"""Columns `study_id` and `study_name`."""
STUDY_ATTRIBUTES: Table = StudyUserAttributeModel.__table__
"""Columns `study_id`, `key` and `value_json`."""
TRIALS: Table = TrialModel.__table__
"""Columns `trial_id`, `number`, `study_id` and `state`."""
USER_ATTRIBUTES: Table = TrialUserAttributeModel.__table__
"""Columns `trial_id`, `key` and `value_json`."""


def id_of_study(study: Study) -> int:
    """Return the id of a study in its storage."""
    return study._study_id


def storage_of(study: Study) -> BaseStorage:
    """Return the storage of a study. Pruners show a sampler only a part of `study.trials`."""
    return study._storage


def id_of_trial(trial: FrozenTrial) -> int:
    """Return the id of a trial in its storage."""
    return trial._trial_id


def stale_trials(storage: RDBStorage, study_id: int) -> set[int]:
    """Return the ids of the running trials whose last heartbeat is too old."""
    return set(storage._get_stale_trial_ids(study_id))
