"""The steps around a network that learns tasks: its data, its times, and its registration."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from components.config.schema import Config, dumps, parse
from components.registry.lookup import CHAMPION
from components.registry.model_registry import ModelVersion
from components.registry.promotion import Decision
from components.steps import prepare_data, profile_latency
from components.steps.compiled import Compiled
from components.steps.context_builder import StepInputs, build_context
from components.steps.model_card import model_card
from components.steps.registration import Promotion, register
from components.steps.run_results import RunResults
from components.steps.summary import summary_of
from nascore.data.batches import Splits, load
from nascore.data.drift import drift, profile
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError
from nascore.latency.benchmark import LatencyResult
from nascore.meta_learning.few_shot_model import FewShotLearner
from nascore.meta_learning.task_adaptation import Inner, TaskSettings
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.methods.base import Method
from nascore.methods.registry import METHODS
from nascore.results import Arm, SearchResult
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.training.final_model import FinalModel

SHAPE = ImageShape(1, 8, 3)
FOUR = {"channels": 3, "num_params": 312}


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process follows the spool: its events are what is tested."""
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NAS_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setitem(METHODS, "few-shot", Method("", AutoMetaOptions, "", split_by="class"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back what a step sets
    before = list(sys.path)  # MLflow adds the code of what it loads
    yield
    sys.path[:] = before


def settings_of(store: str, **episode: int) -> Config:
    return parse(
        {
            "method": "few-shot",
            "registry": {"model": "few-shot"},
            "data": {"valid_fraction": 0.3, "test_fraction": 0.3},
            "search": {
                "space": {
                    "name": "fewshot-cell",
                    "max_blocks": 1,
                    "num_cells": 1,
                    "final_channels": 4,
                },
                "options": {
                    "episode": {"ways": 3, "shots": 2, "queries": 3, **episode},
                    "test_shots": [1],
                },
            },
            "latency": {"runs": 20, "warmup_runs": 1, "device": "cpu", "threads": 1},
            "tracking": {"uri": store},
        }
    )


def prepared(settings: Config, folder: Path) -> Path:
    prepare_data.run(
        config=dumps(settings),
        compiled=Compiled(),
        parameters={},
        job_name="",
        dataset=folder / "dataset",
    )
    return folder / "dataset"


def final_of(settings: Config, **details: Any) -> FinalModel:
    space = make_space(settings.search.space)
    genotype = make_genotype(space, [0, 1, 0, 0, 3])
    torch.manual_seed(0)
    network = space.build(genotype, SHAPE, "final")
    learner = FewShotLearner(network, TaskSettings(3, (1, 8, 8), Inner("adam", 0.01, 2)))
    return FinalModel(genotype, SHAPE, learner.eval(), 0.9, 0.8, 0.7, 1, 1, 1, 1.0, details)


LATENCY = LatencyResult(1, 1, 1, 0, 1, 1, "cpu", 1, 0, 1, "2.10", "2026-01-01").to_dict()


def results_of(
    settings: Config, final: FinalModel, splits: Splits, latency: Mapping[str, Any] = LATENCY
) -> RunResults:
    arm = Arm("few-shot", (), 1.0)
    return RunResults(
        config=settings,
        space=make_space(settings.search.space),
        search=SearchResult("few-shot", 0, final.genotype, 0.8, arm, None, None),
        final=final,
        splits=splits,
        latency=latency,
        timings={},
    )


def test_data_is_split_by_classes_and_networks_have_as_many_answers_as_ways(
    store: str, tmp_path: Path
) -> None:
    settings = settings_of(store)
    folder = prepared(settings, tmp_path)
    info = DatasetInfo.load(folder)
    assert [len(info.names_of(split)) for split in ("train", "valid", "test")] == [4, 3, 3]
    inputs = StepInputs(
        config=settings, dataset=folder, controller=tmp_path, state=tmp_path, run_key="key"
    )
    assert build_context(inputs).shape == SHAPE


def test_tasks_that_the_data_has_not_are_refused_before_anything_is_written(
    store: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        prepared(settings_of(store, ways=4, shots=150, queries=60), tmp_path)
    found = {(problem.key, problem.value) for problem in caught.value.problems}
    assert found == {
        ("search.options.episode.ways", "4"),
        ("search.options.episode.shots + queries", "210"),
    }
    assert len(caught.value.problems) == 5, "ways of two splits, images of three"
    assert not (tmp_path / "dataset").exists()


def test_other_classes_are_another_schema_and_other_splits_a_drift(
    store: str, tmp_path: Path
) -> None:
    first = load(prepared(settings_of(store), tmp_path), torch.device("cpu"))
    shares = profile(first).class_shares
    assert sum(shares) == pytest.approx(1)
    assert sum(share > 0 for share in shares) == 4
    assert drift(profile(first), profile(first)).largest == 0


@pytest.mark.parametrize("has_control", [True, False])
def test_learning_and_answering_are_timed(store: str, tmp_path: Path, has_control: bool) -> None:
    settings = settings_of(store)
    dataset = prepared(settings, tmp_path)
    details = {"auto_meta": {"conv4_baseline": FOUR}} if has_control else {}
    final = final_of(settings, **details)
    final.save(tmp_path / "model")
    metrics = profile_latency.run(
        run_key="key",
        dataset=dataset,
        model=tmp_path / "model",
        latency=tmp_path / "latency.json",
    )
    written = json.loads((tmp_path / "latency.json").read_text())
    few_shot = written["few_shot"]
    assert (few_shot["ways"], few_shot["images"]) == (3, 6)
    assert ("conv4_baseline" in few_shot) == has_control
    networks = [few_shot, *([few_shot["conv4_baseline"]] if has_control else [])]
    for network in networks:
        assert network["adaptation"]["runs"] == 5
        assert network["prediction"]["runs"] == 20
        for times in (network["adaptation"], network["prediction"]):
            assert 0 < times["min_ms"] <= times["p50_ms"] <= times["p95_ms"]
            assert times["std_ms"] >= 0
    result = LatencyResult.from_dict(written)
    assert result.p50_ms == few_shot["prediction"]["p50_ms"] == metrics["latency_p50_ms"]
    assert result.batch_size == 1
    events = "".join(p.read_text() for p in (tmp_path / "spool" / "events").glob("*.jsonl"))
    assert "few_shot_adaptation_p95_ms" in events
    assert ("few_shot_conv4_baseline_prediction_mean_ms" in events) == has_control
    splits = load(dataset, torch.device("cpu"))
    results = results_of(settings, final, splits, latency=written)
    made = Promotion(ModelVersion("m", "1", "models:/m/1"), Decision(CHAMPION, ""), "1", {})
    assert summary_of(results, made, {})["latency_ms"]["few_shot"] == few_shot


def test_it_is_registered_and_examined_in_tasks_of_test_classes(store: str, tmp_path: Path) -> None:
    settings = settings_of(store)
    splits = load(prepared(settings, tmp_path), torch.device("cpu"))
    client = MlflowClient(store, registry_uri=store)
    place = (tmp_path / "mlartifacts").as_uri()
    run_id = client.create_run(client.create_experiment("nas", place)).info.run_id
    final = final_of(settings)
    results = results_of(settings, final, splits)
    made = register(results, run_id=run_id, tags={})
    assert made.decision.alias == CHAMPION
    again = register(results, run_id=run_id, tags={})
    assert (again.registered, again.decision.alias) == (made.registered, CHAMPION)
    other = client.create_run("1").info.run_id
    second = register(results, run_id=other, tags={})
    assert second.registered.version == "2"
    decision = second.decision
    card = model_card(summary_of(results, second, {}), results.latency)
    assert f'mlflow.pyfunc.load_model("{second.registered.uri}")' in card
    loaded: dict[str, Any] = {}
    exec(card.partition("```python\n")[2].partition("```")[0], loaded)
    assert loaded["labels"].shape == (2,)
    assert "into 3 classes of a support set" in card
    assert "## Results of each class" not in card
    assert decision.comparison is not None
    assert decision.comparison.num_images == 200
    assert decision.comparison.difference == pytest.approx(0, abs=1e-6)
    assert np.isfinite(decision.champion_accuracy)
