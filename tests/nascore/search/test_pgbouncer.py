"""Studies behind pgbouncer in transaction mode: each child is trained once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pgbouncer import Pgbouncer, program
from postgres import Postgres

WORKER = Path(__file__).parents[2] / "support" / "pooled_worker.py"


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[Pgbouncer]:
    if program() is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    pooler = Pgbouncer(postgres)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.remove()


@pytest.mark.slow
def test_long_trainings_are_not_repeated(postgres: Postgres, pgbouncer: Pgbouncer) -> None:
    """Two trainings last for twenty heartbeats, while a third worker reads the study often."""
    url = pgbouncer.url(postgres.new_database())
    seconds = [20, 20, *[3] * 5]
    command = [sys.executable, str(WORKER), url, *map(str, seconds)]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 3, ended
    trained = [int(line) for out, _ in ended for line in out.split()]
    assert sorted(trained) == list(range(len(seconds))), ended
    assert "heartbeat" not in "".join(err for _, err in ended)
