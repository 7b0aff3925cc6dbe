"""The private names of Optuna that are used: present, and working as they are expected to."""

import re
from datetime import datetime
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialHeartbeatModel
from optuna.trial import TrialState
from sqlalchemy import select, update

from nascore.search import optuna_private

ROOT = Path(__file__).parents[3]


def open_storage(folder: Path) -> RDBStorage:
    url = f"sqlite:///{folder / 'study.db'}"
    return RDBStorage(url, heartbeat_interval=1, grace_period=2)


def test_ids_and_storage_are_those_of_the_database(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    optuna.create_study(storage=storage, study_name="other")
    study = optuna.create_study(storage=storage, study_name="mine")
    assert optuna_private.id_of_study(study) == storage.get_study_id_from_name("mine")
    shared = optuna_private.storage_of(study)
    shared.set_study_user_attr(optuna_private.id_of_study(study), "key", 1)
    assert study.user_attrs == {"key": 1}
    study.add_trial(optuna.create_trial(value=1.0))
    (trial,) = study.get_trials()
    assert storage.get_trial(optuna_private.id_of_trial(trial)).number == 0


def test_the_tables_hold_trials_and_their_user_attributes(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    study_id = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "study")
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_user_attr(trial_id, "genotype", [1, 2])
    trials, attributes = optuna_private.TRIALS.c, optuna_private.USER_ATTRIBUTES.c
    with storage.engine.connect() as connection:
        row = connection.execute(
            select(trials.trial_id, trials.number, trials.study_id, trials.state)
        ).one()
        written = connection.execute(
            select(attributes.trial_id, attributes.key, attributes.value_json)
        ).one()
    assert tuple(row) == (trial_id, 0, study_id, TrialState.RUNNING)
    assert tuple(written) == (trial_id, "genotype", "[1, 2]")


def test_a_trial_without_heartbeat_is_stale(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    study_id = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "study")
    trial_id = storage.create_new_trial(study_id)
    storage.record_heartbeat(trial_id)
    assert optuna_private.stale_trials(storage, study_id) == set()
    with storage.engine.begin() as connection:
        connection.execute(update(TrialHeartbeatModel).values(heartbeat=datetime(2000, 1, 1)))
    assert optuna_private.stale_trials(storage, study_id) == {trial_id}


def test_the_version_is_pinned_and_no_other_module_uses_private_names() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'"optuna=={optuna.__version__}"' in text
    private = re.compile(r"optuna\.\w*\._|_rdb|\._study_id|\._trial_id|_get_stale")
    users = {
        path.name
        for package in ("nascore", "components", "pipelines")
        for path in (ROOT / package).rglob("*.py")
        if private.search(path.read_text())
    }
    assert users == {"optuna_private.py"}
