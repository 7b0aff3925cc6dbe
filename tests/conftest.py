"""What several tests share: real digits, prepared once, and a small number of threads."""

import os
from pathlib import Path

import pytest

# Before anything imports torch: tensors are small here, and several tests run at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-golden", action="store_true", help="write golden files instead of comparing"
    )


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real handwritten digits as `prepare_data` writes them; a few hundred, so tests stay quick."""
    from nascore.config import DataConfig
    from nascore.data.store import prepare

    folder = tmp_path_factory.mktemp("data") / "digits"
    prepare(DataConfig(source="digits", max_train=400), seed=0, folder=folder)
    return folder


@pytest.fixture(scope="session")
def offline_data() -> Path:
    """The folder that NAS_TEST_DATA names; tests that need it skip without it."""
    given = os.environ.get("NAS_TEST_DATA")
    if not given:
        pytest.skip("NAS_TEST_DATA names no folder with offline data")
    return Path(given)
