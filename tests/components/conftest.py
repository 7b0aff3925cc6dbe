"""A real MLflow store on SQLite for each test; making one takes seconds, so it is made once."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "empty.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> str:
    """The URI of an empty store."""
    path = tmp_path / "mlflow.db"
    shutil.copyfile(empty_store, path)
    return f"sqlite:///{path}"


@pytest.fixture
def runs_by_key() -> Callable[..., dict]:
    """`runs_by_key(uri, experiment)`: all runs of an experiment, a list for each `nas.run_key`."""
    from mlflow import MlflowClient

    def read(uri: str, experiment: str = "nas") -> dict:
        client = MlflowClient(tracking_uri=uri)
        experiment_id = client.get_experiment_by_name(experiment).experiment_id
        found: dict = {}
        for run in client.search_runs([experiment_id], max_results=1000):
            found.setdefault(run.data.tags.get("nas.run_key"), []).append(run)
        return found

    return read
