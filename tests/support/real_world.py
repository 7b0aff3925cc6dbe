"""Real services for the commands of `benchmarks/` that break them."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import s3
from broken_rounds import World, variables
from postgres import Postgres
from services import Services


@contextlib.contextmanager
def real_world(tree: Path, *, seed: int) -> Iterator[World]:
    """Start all services for a command of `benchmarks/`, and remove all but the logs at the end.

    Args:
        tree: folder of the code that the commands run.
    """
    postgres, store = Postgres(), s3.S3Server()
    home = Path(tempfile.mkdtemp(prefix="nas-rounds-"))
    home.chmod(0o755)
    os.environ["PYTHONPATH"] = str(tree)  # commands run in other folders
    os.environ["XDG_STATE_HOME"] = str(home / "state")  # the list of runs with kept events
    try:
        postgres.create()
        store.start()
        services = Services(home, postgres, store)
        try:
            services.start()
            os.environ.update(variables(services))
            yield World(services, seed=seed)
        finally:
            services.mlflow.stop()
    finally:
        store.remove()
        postgres.remove()
