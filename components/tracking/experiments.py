"""The MLflow experiment of a run: whether it is deleted, and which name is used instead.

MLflow keeps the name of a deleted experiment, so that no other can be created under it.
"""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.tracking.client import quick_settings, sqlite_path, within
from nascore.redaction import redact

if TYPE_CHECKING:
    from components.config.schema import Config

SERVERS = ("http", "https")
_STAGE = "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'deleted' AND name = "
_LIMIT_S = 12.0
_MOST_NAMES = 100


def deleted(uri: str, name: str, experiment_id: str) -> str:
    """Return the message about a deleted experiment, with the command that restores it."""
    return (
        f"is deleted; restore it in MLflow (MLFLOW_TRACKING_URI={redact(uri)} mlflow experiments "
        f"restore --experiment-id {experiment_id}), set tracking.deleted_experiment=rename to use "
        f"{name}-2, or set another tracking.experiment"
    )


def with_active_experiment(config: "Config") -> tuple["Config", list[str]]:
    """Return a configuration whose experiment is not deleted, and a sentence if it was renamed.

    With `tracking.deleted_experiment=stop` nothing is changed; `check_store` reports it.
    """
    tracking = config.tracking
    if tracking.deleted_experiment == "stop":
        return config, []
    name = active_experiment(tracking.uri, tracking.experiment)
    if name == tracking.experiment:
        return config, []
    note = f"experiment {tracking.experiment} is deleted in MLflow; this run is tracked in {name}"
    update = {"tracking": tracking.model_copy(update={"experiment": name})}
    return config.model_copy(update=update), [note]


def active_experiment(uri: str, name: str) -> str:
    """Return a name, or NAME-2, NAME-3, ... where experiments of the names before are deleted.

    Args:
        uri: MLflow store; one that cannot be read changes nothing, `check_store` reports it.
        name: of the experiment.
    """
    names = [name, *(f"{name}-{number}" for number in range(2, _MOST_NAMES))]
    try:
        if urlsplit(uri).scheme in SERVERS:
            import mlflow  # noqa: F401  before the limit: the import takes seconds
        with quick_settings(MLFLOW_HTTP_REQUEST_TIMEOUT=5, MLFLOW_HTTP_REQUEST_MAX_RETRIES=0):
            return within(
                _LIMIT_S, lambda: next(one for one in names if deleted_id(uri, one) is None)
            )
    except Exception:  # whatever a store raises
        return name


def deleted_id(uri: str, name: str) -> str | None:
    """Return the id of the experiment of a name if it is deleted, otherwise None.

    Raises:
        Exception: what the client of the store raises.
    """
    path = sqlite_path(uri)
    if path is not None:
        return _deleted_in_file(path, name)
    if urlsplit(uri).scheme in SERVERS:
        from mlflow import MlflowClient

        found = MlflowClient(tracking_uri=uri).get_experiment_by_name(name)
        is_deleted = found is not None and found.lifecycle_stage != "active"
        return str(found.experiment_id) if is_deleted else None
    return _deleted_in_database(uri, name)


def rows_of_file(path: Path, statement: str, *values: str) -> list[tuple[str, ...]]:
    """Return what a query on a SQLite file gives; the file is not changed."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def _deleted_in_file(path: Path, name: str) -> str | None:
    if not path.exists():
        return None
    try:
        rows = rows_of_file(path, f"{_STAGE}?", name)
    except sqlite3.Error:  # a store that MLflow has not made or migrated yet
        return None
    return str(rows[0][0]) if rows else None


def _deleted_in_database(uri: str, name: str) -> str | None:
    from sqlalchemy import create_engine, inspect, text

    engine = create_engine(uri)
    try:
        if "experiments" not in inspect(engine).get_table_names():
            return None
        with engine.connect() as connection:
            row = connection.execute(text(f"{_STAGE}:name"), {"name": name}).first()
            return None if row is None else str(row[0])
    finally:
        engine.dispose()
