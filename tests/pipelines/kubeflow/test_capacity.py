"""The capacity tables of the runbook are those that the compiled pipeline and measurements give."""

import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from postgres import Postgres
from sqlalchemy import create_engine, text

from nascore.genotype import Genotype
from nascore.results import Child, ChildScores
from nascore.search.study import Study
from nascore.search.study_storage import Storage

_FILE = Path(__file__).parents[3] / "scripts" / "capacity.py"


@pytest.fixture(scope="module")
def capacity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capacity", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_tables_of_the_script(capacity: Any) -> None:
    page = capacity.PAGE.read_text(encoding="utf-8")
    for table in (capacity.pods_table(), capacity.sizes_table()):
        assert table in page, f"put this into docs/operators.md:\n{table}"


def add_children(study: Study, count: int) -> None:
    for number in range(count):
        attempt = study.start(lambda ended, ahead: True)
        assert attempt is not None
        genotype = Genotype("space", tuple((number * k) % 7 for k in range(1, 25)))
        study.propose(attempt, genotype)
        now = time.time()
        scores = ChildScores(0.91234, 0.95678, num_params=123456, cost=1.5e6)
        times = {"started_s": now, "ended_s": now}
        child = Child.of_scores(attempt.number, genotype, scores, num_steps=4321, **times)
        study.finish(attempt, child)


def test_bytes_of_a_child_in_the_database(capacity: Any, postgres: Postgres) -> None:
    url = postgres.new_database()
    engine = create_engine(url)

    def size() -> int:
        with engine.connect() as connection:
            connection.execute(text("CHECKPOINT"))
            return int(connection.scalar(text("SELECT pg_database_size(current_database())")))

    with engine.begin() as connection:  # a hundred children in seconds
        database = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {database} SET synchronous_commit = off"))
    storage = Storage(url)
    try:
        study = Study(storage, "n/method", {"method": "random", "space": "s", "seed": 0})
        empty = size()
        add_children(study, 20)  # the first ones open pages of tables and indexes
        before = size()
        add_children(study, 80)
        of_child = (size() - before) / 80
    finally:
        storage.close()
        engine.dispose()
    assert 0.5 < empty / capacity.STUDY_EMPTY < 2
    assert 0.5 < of_child / capacity.STUDY_OF_CHILD < 2
