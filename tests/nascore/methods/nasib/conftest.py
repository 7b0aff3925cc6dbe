"""The digits, read once for all tests of NASIB."""

from pathlib import Path

import pytest
import torch

from nascore.data.batches import Splits, load


@pytest.fixture(scope="session")
def digits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))
