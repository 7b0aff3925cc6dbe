"""Addresses of stores as they are written into the folder of a run: without secrets."""

import os
from pathlib import Path

import pytest

from components.config.schema import Config, parse
from nascore.errors import InputError
from pipelines.local.output import STUDY_VARIABLE, settle_stores


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is settled is undone afterwards."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", STUDY_VARIABLE):
        monkeypatch.setenv(name, "before")


def config(uri: str, storage: str | None = None) -> Config:
    return parse({"tracking": {"uri": uri}, "search": {"storage": storage}})


def test_passwords_go_into_the_environment_and_nowhere_else() -> None:
    study = "postgresql://me:p%40ss@db/studies"
    settled = settle_stores(config("https://nas:a%2Fb%40c@mlflow:5000/x", study))
    assert settled.tracking.uri == "https://mlflow:5000/x"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "nas"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "a/b@c"
    assert settled.search.storage == f"env:{STUDY_VARIABLE}"
    assert os.environ[STUDY_VARIABLE] == study


def test_an_address_without_secrets_stays_as_it_is() -> None:
    settled = settle_stores(config("https://mlflow:5000", "env:MINE"))
    assert (settled.tracking.uri, settled.search.storage) == ("https://mlflow:5000", "env:MINE")
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "before"


@pytest.mark.parametrize(
    ("root", "settled"),
    [("models", "{here}/models"), ("s3://bucket/x", "s3://bucket/x"), (None, None)],
)
def test_a_folder_for_results_is_named_in_full(
    root: str | None, settled: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps run in other folders."""
    monkeypatch.chdir(tmp_path)
    given = parse({"promote": {"export_to": root}})
    expected = settled and settled.format(here=tmp_path)
    assert settle_stores(given).promote.export_to == expected


@pytest.mark.parametrize("uri", ["https://t0ken@mlflow", "postgresql://me:t0ken@db/mlflow"])
def test_a_secret_that_cannot_be_moved_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="holds a secret") as refusal:
        settle_stores(config(uri))
    assert "t0ken" not in str(refusal.value)
