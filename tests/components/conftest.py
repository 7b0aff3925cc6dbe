"""An MLflow store in a file for each test, and the account of the S3 server."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from s3 import ACCESS_KEY, REGION, SECRET_KEY


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


# --- S3 -------------------------------------------------------------------------------------


@pytest.fixture
def aws_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server's account in the environment, and nothing of this machine's own settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
