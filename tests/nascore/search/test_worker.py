"""Searches whose workers are real processes that die, on databases that go away."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from few_shot_tasks import prepare_digits
from postgres import Postgres
from worker_process import ForkServer

from nascore.results import Child

KILLED = -9
OUTAGE_S = 20.0
MAX_TRIES = 20
Search = Callable[..., "Crew"]


class Crew:
    """The workers of one search.

    Args:
        storage: URL; the SQLite file in `folder` when None.
    """

    def __init__(
        self, server: ForkServer, folder: Path, *, storage: str | None, **settings: Any
    ) -> None:
        folder.mkdir()
        self.url = storage or f"sqlite:///{folder / 'study.db'}"
        self.log = folder / "log.jsonl"
        self.budget: int = settings["budget"]
        self.num_killed = 0
        self._workers: list[int] = []
        self._server = server
        self._settings: dict[str, Any] = {
            "state": str(folder),
            "log": str(self.log),
            "storage": storage,
            "method": "regularized-evolution",
            "seed": 0,
            "control": True,
            "epochs": 2,
            "workers": 3,
            "max_tries": MAX_TRIES,
            "worker_timeout_s": 6,
            "is_helper": True,
            "run_key": "search",
            **settings,
        }

    def start(self, count: int) -> None:
        self._workers += [self._server.start(**self._settings) for _ in range(count)]

    def kill(self, index: int, *, replace: bool = True) -> None:
        """Kills the worker of one place, and starts another there."""
        status = self._server.kill(self._workers.pop(index))
        self.num_killed += status == KILLED
        assert status in (0, KILLED), self._server.errors()
        if replace:
            self.start(1)

    def kill_all(self) -> None:
        for pid in self._workers:
            self.num_killed += self._server.kill(pid) == KILLED
        self._workers = []

    def is_done(self) -> bool:
        return any(self._server.poll(pid) == 0 for pid in self._workers)

    def wait_for(self, count: int) -> None:
        """Until so many more children have ended, or the work is done."""
        goal = self.num_finished() + count
        end = time.monotonic() + 60
        while self.num_finished() < goal and not self.is_done():
            assert time.monotonic() < end, self._server.errors()
            time.sleep(0.02)

    def num_finished(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def end(self) -> None:
        """Lets the workers end, the last of them being one that waits for the others."""
        self._workers.append(self._server.start(**self._settings | {"is_helper": False}))
        for pid in self._workers:
            assert self._server.wait(pid) == 0, self._server.errors()

    def run(self, **settings: Any) -> int:
        """The exit status of one worker that works alone."""
        alone = {"workers": 1, "is_helper": False}
        return self._server.wait(self._server.start(**self._settings | alone | settings))

    def errors(self) -> str:
        return self._server.errors()

    # --- what the study says, read without the code that is tested.

    def trials(self, arm: str) -> list[optuna.trial.FrozenTrial]:
        url = self.url.replace("postgresql://", "postgresql+psycopg://")
        storage = optuna.storages.RDBStorage(url)
        try:
            return optuna.load_study(study_name=f"search/{arm}", storage=storage).get_trials()
        finally:
            storage.engine.dispose()

    def children(self, arm: str) -> list[Child]:
        """One of each number; that no two differ is checked."""
        found: dict[int, Child] = {}
        for trial in self.trials(arm):
            if "child" in trial.user_attrs:
                child = Child.from_dict(trial.user_attrs["child"])
                assert outcome(found.setdefault(child.number, child)) == outcome(child)
        return [found[number] for number in sorted(found)]


def outcome(child: Child) -> tuple[object, ...]:
    """What must repeat: everything but the clock."""
    return child.number, child.genotype, child.valid_accuracy, child.failure


def check(crew: Crew, arms: tuple[str, ...] = ("method", "control")) -> None:
    """Nothing is lost, nothing is counted twice, and all that was begun has ended."""
    for arm in arms:
        trials, children = crew.trials(arm), crew.children(arm)
        assert [child.number for child in children] == list(range(crew.budget))
        assert all(trial.state.is_finished() for trial in trials)
        assert all(child.scores is not None for child in children), "none was given up"
        ended = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
        assert len(ended) == crew.budget
        tries = Counter(
            trial.user_attrs["child"]["number"] for trial in trials if "child" in trial.user_attrs
        )
        assert set(tries.values()) == {1}, "no child is trained to its end twice"
    by_number = {
        (arm, child.number): outcome(child) for arm in arms for child in crew.children(arm)
    }
    for line in crew.log.read_text().splitlines():
        note = json.loads(line)
        child = Child.from_dict(note["child"])
        arm = note["study"].split("/")[1]
        assert by_number[arm, child.number] == outcome(child), "a finished child was lost"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Iterator[ForkServer]:
    folder = tmp_path_factory.mktemp("server")
    server = ForkServer(folder, digits_folder, prepare_digits(folder / "few-shot"))
    yield server
    server.close()


@pytest.fixture
def search(tmp_path: Path, server: ForkServer) -> Iterator[Search]:
    crews: list[Crew] = []

    def start(*, storage: str | None = None, **settings: Any) -> Crew:
        crews.append(Crew(server, tmp_path / str(len(crews)), storage=storage, **settings))
        return crews[-1]

    yield start
    for crew in crews:
        crew.kill_all()


# --- many workers -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_when_workers_are_killed(
    search: Search, database: str, request: pytest.FixtureRequest
) -> None:
    rng = random.Random(database)
    storage = None
    if database == "postgresql":
        storage = request.getfixturevalue("postgres").new_database()
    crew = search(storage=storage, budget=36)
    crew.start(3)
    while not crew.is_done():
        crew.wait_for(rng.randint(0, 2))
        time.sleep(rng.uniform(0, 0.1))
        crew.kill(rng.randrange(3))
    crew.end()
    check(crew)
    assert crew.num_killed >= 12  # how many there is time for depends on the machine


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_when_all_workers_are_killed_at_once(
    search: Search, database: str, request: pytest.FixtureRequest
) -> None:
    storage = None
    if database == "postgresql":
        storage = request.getfixturevalue("postgres").new_database()
    crew = search(storage=storage, budget=10)
    for _ in range(3):
        crew.start(3)
        crew.wait_for(4)
        crew.kill_all()
    crew.end()
    check(crew)
    assert crew.num_killed == 9


@pytest.mark.slow
def test_nothing_is_lost_when_workers_of_auto_meta_are_killed(search: Search) -> None:
    rng = random.Random(0)
    crew = search(method="auto-meta", budget=20)
    crew.start(3)
    while not crew.is_done():
        crew.wait_for(rng.randint(0, 2))
        time.sleep(rng.uniform(0, 0.1))
        crew.kill(rng.randrange(3))
    crew.end()
    check(crew)
    assert crew.num_killed >= 10


@pytest.mark.slow
def test_nothing_is_lost_when_the_database_goes_away(search: Search, postgres: Postgres) -> None:
    """For longer than a worker may be silent; one of three is killed meanwhile."""
    crew = search(storage=postgres.new_database(), budget=20, worker_timeout_s=6)
    crew.start(3)
    crew.wait_for(8)
    postgres.stop()
    try:
        time.sleep(10)
        crew.kill(0, replace=False)
        time.sleep(OUTAGE_S - 10)
        before = crew.num_finished()
    finally:
        postgres.start()
    crew.end()
    check(crew)
    assert before < 2 * crew.budget, "it was over before the outage"


# --- one worker after the other -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["regularized-evolution", "local-search", "auto-meta"])
def test_one_worker_killed_at_eleven_points_and_resumed_repeats_the_history(
    search: Search, method: str
) -> None:
    """Before and after operations on the study, and in the middle of trainings."""
    settings = {"method": method, "budget": 13, "control": False, "epochs": 1}
    whole, parts = search(**settings), search(**settings)
    assert whole.run() == 0, whole.errors()
    # Of a study with children, operations 8 to 14 are: announce, read, sign of life, genotype,
    # outcome, end of the trial, read; those that follow belong to the next child. Two more come
    # before where a dead worker's trial is closed.
    points = [{"die_at": 8 + at, "after": at % 2 == 0} for at in range(9)]
    points += [{"die_in_training": 3}, {"die_in_training": 8}]
    for point in points:
        assert parts.run(**point) == KILLED, parts.errors()
    assert parts.run() == 0, parts.errors()
    expected = [outcome(child) for child in whole.children("method")]
    assert len(expected) == 13
    assert [outcome(child) for child in parts.children("method")] == expected
    by_end = sorted(parts.children("method"), key=lambda child: child.ended_s)
    assert [outcome(child) for child in by_end] == expected
    check(parts, ("method",))
