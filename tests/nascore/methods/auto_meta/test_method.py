"""The method on real digits, four classes to train on, three to judge by and three to test."""

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
import torch
from callbacks import CallbacksOf
from few_shot_tasks import META, OPTIONS, SPACE, make_task, outcome, prepare_digits
from optuna.distributions import CategoricalDistribution

from components.config.schema import parse
from nascore.context import SearchContext
from nascore.data.batches import Split, Splits, load
from nascore.data.class_splits import ClassSplits
from nascore.data.episodes import EpisodeSampler
from nascore.errors import InputError
from nascore.meta_learning.conv4 import Conv4
from nascore.meta_learning.few_shot_model import FewShotLearner
from nascore.methods.auto_meta import method
from nascore.methods.auto_meta.final_comparison import channels_of
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.methods.auto_meta.progressive import cells_of
from nascore.optuna_sampler import ProposerSampler
from nascore.optuna_sampler.parameters import ParameterSpace
from nascore.results import Child, SearchResult
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig
from nascore.spaces.fewshot.space import PUBLISHED, FewShotCellSpace
from nascore.training.final_model import FinalModel


class Untouchable:
    """A test split that nobody may look at."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the search has asked the test split for {name}")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = prepare_digits(tmp_path_factory.mktemp("few-shot") / "data")
    return load(folder, torch.device("cpu"))


@pytest.fixture(scope="module")
def searched(
    splits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchContext, SearchResult, list[tuple[dict[str, float], int]]]:
    metrics: list[tuple[dict[str, float], int]] = []
    task = make_task(
        tmp_path_factory.mktemp("search"),
        splits,
        callbacks=CallbacksOf(on_metrics=lambda m, step: metrics.append((m, step))),
    )
    method.pretrain(task)
    return task, method.search(task), metrics


def class_splits(splits: Splits) -> ClassSplits:
    found = splits.info.class_splits
    assert found is not None
    return found


def blocks(task: SearchContext, children: tuple[Child, ...]) -> list[int]:
    return [len(cells_of(task.space).cell(child.genotype)) for child in children]


# --- the search ---------------------------------------------------------------------------------


def test_cells_grow_beside_a_random_search_of_equal_cost(
    searched: tuple[SearchContext, SearchResult, Any],
) -> None:
    task, result, _ = searched
    children = result.arm.children
    assert blocks(task, children) == [1] * 6 + [2] * 4, "first stage; then top_k and num_random"
    space = cells_of(task.space)
    first = {space.cell(child.genotype) for child in children[:6]}
    assert all(space.cell(child.genotype)[:-1] in first for child in children[6:])
    assert result.control is not None
    assert (result.control.method, len(result.control.children)) == ("random", 10)
    steps = {child.num_steps for child in (*children, *result.control.children)}
    assert steps == {2}, "outer steps, for children of both arms"
    assert result.verdict is not None
    best = max(child.valid_accuracy or 0 for child in children)
    assert result.valid_accuracy == best


def test_the_search_never_sees_a_test_class(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[int] = set()
    draw = EpisodeSampler.draw

    def logging_draw(self: EpisodeSampler, *args: Any) -> Any:
        drawn = draw(self, *args)
        used.update(drawn.classes.unique().tolist())
        return drawn

    monkeypatch.setattr(EpisodeSampler, "draw", logging_draw)
    hidden = dataclasses.replace(splits, test=cast(Split, Untouchable()))
    task = make_task(tmp_path, hidden, children=8)
    method.pretrain(task)
    method.search(task)
    classes = class_splits(splits)
    assert used == set(classes.train) | set(classes.valid)
    assert not used & set(classes.test)
    assert not set(classes.train) & set(classes.valid)


def test_children_of_both_arms_are_judged_by_the_same_tasks(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bytes, int] = {}
    draw = EpisodeSampler.draw
    valid = set(class_splits(splits).valid)

    def logging_draw(self: EpisodeSampler, *args: Any) -> Any:
        drawn = draw(self, *args)
        if set(drawn.classes.unique().tolist()) <= valid:
            key = drawn.query_x.numpy().tobytes()
            seen[key] = seen.get(key, 0) + 1
        return drawn

    monkeypatch.setattr(EpisodeSampler, "draw", logging_draw)
    task = make_task(tmp_path, splits, children=4)
    method.pretrain(task)
    method.search(task)
    assert list(seen.values()) == [8], "four children of each arm"


def test_a_search_goes_on_where_it_was(tmp_path: Path, splits: Splits) -> None:
    whole, parts = (
        make_task(tmp_path / name, splits, control=False) for name in ("whole", "parts")
    )
    for task in (whole, parts):
        method.pretrain(task)
    expected = [outcome(child) for child in method.search(whole).arm.children]
    for stop_after in (2, 5, 8):
        done: list[Child] = []
        method.search(
            dataclasses.replace(
                parts,
                callbacks=CallbacksOf(
                    on_child=lambda arm, child, done=done: done.append(child),
                    should_stop=lambda done=done, n=stop_after: len(done) >= n,
                ),
            )
        )
    assert [outcome(child) for child in method.search(parts).arm.children] == expected


def test_other_settings_of_the_evaluation_are_another_search(
    tmp_path: Path, splits: Splits
) -> None:
    task = make_task(tmp_path, splits, children=2)
    method.pretrain(task)
    method.search(task)
    other = make_task(tmp_path, splits, children=2, valid_episodes=5)
    with pytest.raises(InputError, match="evaluation"):
        method.search(other)


def test_rank_correlation_of_a_stage_is_reported(
    searched: tuple[SearchContext, SearchResult, list[tuple[dict[str, float], int]]],
) -> None:
    task, result, metrics = searched
    told = {
        step: m["search/rank_correlation"] for m, step in metrics if "search/rank_correlation" in m
    }
    stages = {stage["blocks"]: stage for stage in method.stages(task, result.arm.children)}
    assert stages[1]["rank_correlation"] is None
    assert stages[2]["rank_correlation"] == told.get(2)
    assert [stages[size]["trained"] for size in (1, 2)] == [6, 4]
    shape = next(m for m, _ in metrics if "search/depth" in m)
    assert 1 <= shape["search/depth"] <= 2
    assert shape["search/width"] >= 1


# --- the winner -----------------------------------------------------------------------------------


Tested = tuple[FinalModel, dict[str, int], list[tuple[str, float]], set[str]]


@pytest.fixture(scope="module")
def tested(searched: tuple[SearchContext, SearchResult, Any], splits: Splits) -> Tested:
    """The trained winner, tasks drawn from each split, progress, and names of metrics."""
    task, result, _ = searched
    shares: list[tuple[str, float]] = []
    names: set[str] = set()
    callbacks = CallbacksOf(
        on_progress=lambda *given: shares.append(given),
        on_metrics=lambda metrics, step: names.update(metrics),
    )
    task = dataclasses.replace(task, callbacks=callbacks)
    counts = {"train": 0, "valid": 0, "test": 0}
    draw = EpisodeSampler.draw

    def counting_draw(self: EpisodeSampler, num_tasks: int, *args: Any) -> Any:
        drawn = draw(self, num_tasks, *args)
        found = set(drawn.classes.unique().tolist())
        (split,) = [name for name in counts if found <= set(class_splits(splits).of(name))]
        counts[split] += num_tasks
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpisodeSampler, "draw", counting_draw)
        return method.train_final(task, result), counts, shares, names


@pytest.fixture(scope="module")
def final(tested: Tested) -> FinalModel:
    return tested[0]


def test_the_winner_is_tested_with_a_conv4_of_at_least_as_many_weights(tested: Tested) -> None:
    final, _, _, names = tested
    details = final.details["auto_meta"]
    conv4 = details["conv4_baseline"]
    assert details["num_params"] == final.num_params <= conv4["num_params"]
    fewer = Conv4(1, 8, 3, channels=conv4["channels"] - 1)
    assert sum(p.numel() for p in fewer.parameters()) < final.num_params
    assert [test["shots"] for test in details["tests"]] == [1, 2]
    for test in details["tests"]:
        for name in ("own", "conv4_baseline", "difference"):
            assert test[name]["num_tasks"] == 600
            assert test[name]["interval"] > 0
        means = test["own"]["mean"] - test["conv4_baseline"]["mean"]
        assert test["difference"]["mean"] == pytest.approx(means, abs=1e-6)
    assert final.test_accuracy == details["tests"][0]["own"]["mean"]
    assert details["cell"]["depth"] >= 1
    assert {"final/test_1_shot", "final/test_2_shot_conv4_baseline_interval"} <= names
    json.dumps(final.summary())


def test_the_conv4_baseline_learns_tasks_in_its_own_way(
    final: FinalModel, searched: tuple[SearchContext, SearchResult, Any]
) -> None:
    task, result, _ = searched
    own_way = {"inner_lr": 0.3, "eval_inner_steps": 2}
    options = AutoMetaOptions.model_validate({**OPTIONS, "conv4_baseline": own_way})
    other = method.train_final(dataclasses.replace(task, options=options), result)
    before, after = (model.details["auto_meta"] for model in (final, other))
    assert before["conv4_baseline"]["inner"] == before["inner"] == after["inner"]
    learned = after["conv4_baseline"]["inner"]
    assert (learned["learning_rate"], learned["num_steps"]) == (0.3, 2)
    for one, two in zip(before["tests"], after["tests"], strict=True):
        assert one["own"] == two["own"]
        assert one["conv4_baseline"] != two["conv4_baseline"]


@pytest.mark.parametrize(("threads", "at_once"), [(1, True), (2, False)])
def test_both_are_trained_at_once_where_each_has_one_thread(
    searched: tuple[SearchContext, SearchResult, Any],
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    at_once: bool,
) -> None:
    class Seen(Exception):
        pass

    def run_both(*arms: object, at_once: bool) -> None:
        raise Seen(at_once)

    monkeypatch.setattr("nascore.methods.auto_meta.final_comparison.run_pair", run_both)
    monkeypatch.setattr(
        "nascore.methods.auto_meta.final_comparison.has_small_steps", lambda *_: False
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    with pytest.raises(Seen) as seen:
        method.train_final(searched[0], searched[1])
    assert seen.value.args == (at_once,)


def test_the_winner_is_a_learner_that_can_be_saved(
    tmp_path: Path, final: FinalModel, searched: tuple[SearchContext, SearchResult, Any]
) -> None:
    assert isinstance(final.network, FewShotLearner)
    final.save(tmp_path)
    loaded = FinalModel.load(tmp_path, searched[0].space)
    x = torch.randn(6, 1, 8, 8)
    torch.testing.assert_close(loaded.network(x), final.network(x))
    assert isinstance(loaded.network, FewShotLearner)
    assert loaded.network.settings == final.network.settings
    assert final.network.settings.inner.num_steps == META["inner_steps"]


def test_the_final_training_tells_how_far_it_is(tested: Tested) -> None:
    assert tested[2] == [("method", 0.5), ("method", 1.0)], "of two steps, the winner's alone"


def test_the_test_draws_from_test_classes_alone(tested: Tested) -> None:
    """Two networks; two steps of two tasks each, and four tasks of train and valid for judging."""
    assert tested[1] == {"train": 2 * (2 * 2 + 4), "valid": 2 * 4, "test": 2 * 2 * 600}


@pytest.mark.parametrize("at_least", [1, 500, 28_485])
def test_conv4_has_as_few_weights_as_may_be(at_least: int) -> None:
    shape = ImageShape(1, 28, 5)
    channels = channels_of(shape, at_least=at_least)
    counts = [
        sum(p.numel() for p in Conv4(1, 28, 5, channels=c).parameters())
        for c in (channels, max(1, channels - 1))
    ]
    assert counts[0] >= at_least
    assert counts[1] < at_least or channels == 1


# --- the published cell ---------------------------------------------------------------------------


def test_the_published_cell_is_a_configuration(tmp_path: Path, splits: Splits) -> None:
    space = FewShotCellSpaceConfig(num_cells=1, search_channels=2)
    task = make_task(tmp_path, splits, space=space, children=1, control=False, cell="published")
    method.pretrain(task)
    result = method.search(task)
    assert cast(FewShotCellSpace, task.space).cell(result.genotype) == PUBLISHED
    assert result.control is None


def test_the_published_cell_needs_its_space(tmp_path: Path, splits: Splits) -> None:
    with pytest.raises(InputError, match="max_blocks of 5 or more, and conv_3x3"):
        method.pretrain(make_task(tmp_path, splits, cell="published"))


# --- what is refused before anything is trained ---------------------------------------------------


def test_all_that_does_not_fit_is_told_at_once(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("something is trained")

    monkeypatch.setattr("nascore.meta_learning.training.meta_train", never)
    episode = {"ways": 5, "shots": 1, "queries": 500}
    task = make_task(
        tmp_path, splits, search={"pruner": "median"}, cell="published", episode=episode
    )
    with pytest.raises(InputError) as refused:
        method.pretrain(task)
    told = str(refused.value)
    assert "search.pruner = median" in told
    assert "search.options.cell = published" in told
    assert "only 4 train classes" in told
    assert "501" in told
    assert not (task.controller / "controller.json").exists()


def test_empty_stages_are_refused_in_one_message() -> None:
    data = {
        "method": "auto-meta",
        "search": {
            "space": {"name": "fewshot-cell", "max_blocks": 0},
            "options": {"progressive": {"top_k": 0}, "test_shots": []},
        },
    }
    with pytest.raises(InputError) as refused:
        parse(data)
    assert {problem.key for problem in refused.value.problems} == {
        "search.space.max_blocks",
        "search.options.progressive.top_k",
        "search.options.test_shots",
    }


def test_another_space_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        parse({"method": "auto-meta", "search": {"space": {"name": "chain"}}})
    (problem,) = refused.value.problems
    assert "set it to fewshot-cell" in problem.message
    with pytest.raises(InputError, match="no cells that grow by blocks"):
        cells_of(make_space(ChainSpaceConfig()))


# --- as a sampler ---------------------------------------------------------------------------------


def parameters() -> dict[str, CategoricalDistribution]:
    """Those of cells of at most two blocks with three operations."""
    sizes = make_space(SPACE).cardinalities
    return {f"p{place}": CategoricalDistribution(range(n)) for place, n in enumerate(sizes)}


def test_parameters_that_are_cells_are_grown() -> None:
    space = ParameterSpace(parameters())
    cells = cells_of(space)
    assert cells.identifier == space.identifier
    assert cells.config.max_blocks == 2
    options = {
        "progressive": {
            "num_first_stage": 4,
            "top_k": 2,
            "num_random": 1,
            "num_predictors": 2,
        }
    }

    def run(num_trials: int, study: optuna.Study | None = None) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = ProposerSampler("auto-meta", seed=0, search_space=parameters(), options=options)
        study = study or optuna.create_study(direction="maximize")
        study.sampler = sampler
        study.optimize(objective, n_trials=num_trials)
        return study

    def objective(trial: optuna.Trial) -> float:
        return float(sum(trial._suggest(n, d) for n, d in parameters().items()))

    study = run(7)
    assert [trial.params["p0"] for trial in study.trials] == [0] * 4 + [1] * 3
    assert [t.params for t in run(4, run(3)).trials] == [t.params for t in study.trials]


def test_parameters_of_anything_else_are_refused() -> None:
    sampler = ProposerSampler(
        "auto-meta", seed=0, search_space={"a": CategoricalDistribution((1, 2, 3))}
    )
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(InputError, match="no cells that grow by blocks"):
        study.optimize(lambda trial: float(trial.suggest_categorical("a", (1, 2, 3))), n_trials=1)
