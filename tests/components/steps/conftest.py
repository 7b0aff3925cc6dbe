"""A trained network and its data, for the tests of pretrained weights and teachers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from s3 import S3Server
from transfer_runs import config_of, trained

from nascore.data.batches import Splits, load
from nascore.training.final_model import FinalModel


@pytest.fixture(scope="module")
def splits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    return tmp_path / "dataset"


@pytest.fixture(scope="module")
def final(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> FinalModel:
    """A network of this project, trained on digits."""
    return trained(config_of(), splits, tmp_path_factory.mktemp("final"))


@pytest.fixture
def s3(s3_server: S3Server, aws_account: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A plain client to put things with; the code under test finds the server as well."""
    s3_server.bucket("data")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    return s3_server.client()
