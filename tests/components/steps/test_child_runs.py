"""Which children of a search have MLflow runs, and what is in them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from components.config.schema import parse
from components.steps.child_runs import ChildRuns
from components.tracking import Tracker
from components.tracking.replayer import follow
from nascore.results import Arm, Child, ChildScores, SearchResult
from nascore.spaces.base import make_genotype, make_space

Runs = Callable[..., dict]


@pytest.fixture
def step(tmp_path: Path, store: str) -> Any:
    tracker = Tracker.open(tmp_path / "spool", uri=store, experiment="nas")
    tracker.run("p", name="pipeline")
    tracker.run("p.search", name="search", parent="p")
    config = parse({"method": "random"})
    return SimpleNamespace(tracker=tracker, run_key="p", name="search", config=config)


def child(number: int, accuracy: float, seconds: float = 1.0) -> Child:
    space = make_space(parse({"method": "random"}).search.space)
    genotype = make_genotype(space, [0] * len(space.cardinalities))
    scores = ChildScores(accuracy, num_params=100)
    rest = {"started_s": 1000.0, "ended_s": 1000.0 + seconds, "num_steps": 7}
    return Child.of_scores(number, genotype, scores, **rest)


def result_of(children: list[Child], control: list[Child]) -> SearchResult:
    arms = [Arm("random", tuple(one), 60.0) for one in (children, control)]
    return SearchResult("random", 0, children[0].genotype, 0.9, arms[0], arms[1], None)


def sent(step: Any, store: str, runs_by_key: Runs) -> dict[str, Any]:
    step.tracker.close()
    follow(step.tracker.spool)
    return {key: run for key, (run,) in runs_by_key(store).items() if key.count(".") == 2}


def test_the_three_best_and_those_that_took_long_have_runs(
    step: Any, store: str, runs_by_key: Runs
):
    children = [child(n, 0.5 + n / 100, seconds=20 if n == 0 else 1) for n in range(6)]
    failed = replace(
        child(6, 0.5, seconds=30), objective=None, scores=None, failure="loss", status="failed"
    )
    pruned = replace(failed, number=7, failure="pruned after epoch 1", status="pruned")
    control = [child(0, 0.9), child(1, 0.4, seconds=11)]
    runs = ChildRuns(step)
    runs.on_child("method", children[0])
    runs.on_child("method", children[1])
    everything = result_of([*children, failed, pruned], control)
    runs.finish(everything)
    ChildRuns(step).finish(everything)  # a step that is tried again
    found = sent(step, store, runs_by_key)
    assert sorted(key.rpartition(".")[2] for key in found) == [
        *(f"child-{number}" for number in (0, 3, 4, 5, 6, 7)),
        "control-1",
    ]
    ranks = {key: run.data.tags.get("nas.rank") for key, run in found.items()}
    assert (ranks["p.search.child-5"], ranks["p.search.child-3"]) == ("1", "3")
    assert ranks["p.search.child-0"] is None
    statuses = [found[f"p.search.child-{number}"].info.status for number in (5, 6, 7)]
    assert statuses == ["FINISHED", "FAILED", "KILLED"]
    assert found["p.search.child-6"].data.tags["nas.failure"] == "loss"
    first = found["p.search.child-0"]
    assert (first.info.start_time, first.info.end_time) == (1_000_000, 1_020_000)
    assert first.data.params["arm"] == "method"
    assert first.data.metrics["num_params"] == 100
    assert first.data.metrics["duration_s"] == 20


def test_no_search_has_thousands_of_runs(
    step: Any, store: str, runs_by_key: Runs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("components.steps.child_runs._MAX_RUNS", 4)
    children = [child(number, number / 100, seconds=60) for number in range(9)]
    runs = ChildRuns(step)
    for one in children:
        runs.on_child("method", one)
    runs.finish(result_of(children, []))
    found = sent(step, store, runs_by_key)
    assert sorted(found) == [f"p.search.child-{number}" for number in (0, 1, 2, 3, 6, 7, 8)]


def test_only_children_of_this_process_have_samples_of_this_machine(step: Any, store: str):
    here, elsewhere = child(0, 0.5, seconds=20), child(1, 0.5, seconds=20)
    runs = ChildRuns(step)
    runs.on_child("method", here)
    runs.finish(result_of([here, elsewhere], []))
    step.tracker.close()
    events = [
        json.loads(line)
        for path in (step.tracker.spool / "events").iterdir()
        for line in path.read_text().splitlines()
    ]
    flags = {e["run"]: e["has_samples"] for e in events if e["op"] == "ended_run"}
    assert flags == {"p.search.child-0": True, "p.search.child-1": False}
    assert MlflowClient(store).search_experiments()
