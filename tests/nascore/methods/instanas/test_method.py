"""InstaNAS, from pre-training to the trained network, on real digits; costs are multiply-adds."""

import dataclasses
import json
from pathlib import Path
from typing import cast

import pytest
import torch
from callbacks import CallbacksOf
from instanas_tasks import SPACE, are_equal, make_task, run, weights_of

from nascore.config import BudgetConfig, LatencyConfig
from nascore.context import SearchContext
from nascore.errors import InputError
from nascore.methods.instanas import costs, method
from nascore.methods.instanas.cost_measurement import profile_policies
from nascore.methods.instanas.mobilenet_baseline import epochs_of
from nascore.methods.instanas.networks import identity, new_controller, new_graph
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.instanas.point_checkpoints import POINTS as POINTS_JSON
from nascore.methods.instanas.point_checkpoints import load_point
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.search_points import Point, evaluate
from nascore.results import SearchResult
from nascore.spaces.base import make_space
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.training.final_model import FinalModel
from nascore.training.loop import planned_steps


@pytest.fixture(scope="module")
def searched(
    tmp_path_factory: pytest.TempPathFactory, digits_folder: Path
) -> tuple[SearchContext, SearchResult, list[tuple[int, dict[str, float]]]]:
    """A search with its control, its task, and what it reported."""
    told: list[tuple[int, dict[str, float]]] = []
    task = make_task(
        tmp_path_factory.mktemp("searched") / "run",
        digits_folder,
        budget=BudgetConfig(steps=120),
        pretraining={"epochs": 10, "batch_size": 32, "lr": 0.1},
        callbacks=CallbacksOf(on_metrics=lambda metrics, step: told.append((step, metrics))),
    )
    return task, run(task), told


Searched = tuple[SearchContext, SearchResult, list[tuple[int, dict[str, float]]]]


# --- what a search gives ------------------------------------------------------------------------


def test_a_search_keeps_points_and_chooses_one(searched: Searched) -> None:
    task, result, _ = searched
    described = json.loads((task.state / "weights" / POINTS_JSON).read_text())
    assert [point["name"] for point in described["points"]] == ["A", "B", "C"]
    chosen = described["points"][described["chosen"]]
    assert list(result.genotype.tokens) == chosen["tokens"]
    assert result.valid_accuracy == chosen["valid_accuracy"]
    assert len(result.arm.children) == 3
    assert result.cost_metric == "macs"
    assert result.pareto


def test_its_control_is_one_network_for_all_images_that_is_no_slower(searched: Searched) -> None:
    _, result, _ = searched
    assert result.control is not None
    (static,) = result.control.children
    assert static.scores is not None
    chosen = max(
        (child for child in result.arm.children if child.genotype == result.genotype),
        key=lambda child: child.valid_accuracy or 0,
    )
    assert chosen.scores is not None
    assert static.scores.cost is not None
    assert static.scores.cost <= (chosen.scores.cost or 0)


def test_the_verdict_tells_both_comparisons(searched: Searched) -> None:
    _, result, _ = searched
    assert result.verdict is not None
    assert result.verdict["outcome"] in ("better", "not better", "undecided")
    assert result.verdict["shuffled"]["num_images"] == result.verdict["static"]["num_images"]
    assert "other images" in result.verdict["statement"]
    assert "random" in result.verdict["statement"]


def test_images_get_different_architectures(searched: Searched) -> None:
    """Property 1: two greedy policies or more; a controller that sees nothing has one."""
    task, _, _ = searched
    network = point_of(task, 0)
    table = costs.load_table(task, network.meta_graph, network.controller)
    aware = evaluate(network.meta_graph, network.controller, table, task.splits.valid)
    assert len(aware.policy_NLO.unique(dim=0)) >= 2
    torch.nn.init.zeros_(network.controller.head.weight)
    blind = evaluate(network.meta_graph, network.controller, table, task.splits.valid)
    assert len(blind.policy_NLO.unique(dim=0)) == 1


def test_the_window_comes_down_and_so_do_latencies(searched: Searched) -> None:
    """Property 6."""
    _, _, told = searched
    uppers = [metrics["policy/window_upper"] for _, metrics in told if "policy/reward" in metrics]
    assert len(uppers) > 3
    assert uppers == sorted(uppers, reverse=True)
    assert uppers[-1] < uppers[0]
    spent = [metrics["policy/latency_macs"] for _, metrics in told if "policy/reward" in metrics]
    assert spent[-1] < spent[0]


def point_of(task: SearchContext, number: int) -> Routed:
    described = json.loads((task.state / "weights" / POINTS_JSON).read_text())
    point = Point.from_dict(described["points"][number])
    return load_point(task.state, point, cast(MobileSpace, task.space), task.shape)


# --- the trained network ------------------------------------------------------------------------


def test_the_final_training_leaves_the_policy(searched: Searched, tmp_path: Path) -> None:
    task, result, _ = searched
    final = method.train_final(task, result)
    network = final.network
    assert isinstance(network, Routed)
    told = final.details["instanas"]
    before = point_of(task, told["point"]["number"])
    assert are_equal(weights_of(before.controller), weights_of(network.controller))
    assert not are_equal(weights_of(before.meta_graph), weights_of(network.meta_graph))
    assert final.figures is not None, "it knows its classes"
    assert len(final.figures["per_class"]) == 10
    assert told["baseline"] is None  # it takes time, and has to be asked for
    assert told["valid_accuracy"] == final.valid_accuracy
    assert 0 <= told["shuffled"]["test_accuracy"] <= 1
    assert told["policies"]["num_images"] == task.splits.valid.num_images
    final.save(tmp_path / "model")
    again = FinalModel.load(tmp_path / "model", task.space)
    x_BCHW, _ = next(task.splits.test.eval_batches(50))
    assert torch.equal(again.network(x_BCHW), network.eval()(x_BCHW))
    assert json.loads(json.dumps(final.details)) == again.details


def test_mobilenet_is_trained_beside_where_it_is_asked_for(searched: Searched) -> None:
    task, result, _ = searched
    options = _options_with_baseline(task)
    details = method.train_final(dataclasses.replace(task, options=options), result).details
    told = details["instanas"]
    chosen = Point.from_dict(told["point"])
    assert told["baseline"]["epochs"] == epochs_of(task, chosen)
    assert told["baseline"]["latency"] == told["table"]["baseline"]


def test_whether_it_is_asked_for_does_not_make_another_search(searched: Searched) -> None:
    """It may be asked for when the search has been made."""
    task, _, _ = searched
    beside = dataclasses.replace(task, options=_options_with_baseline(task))
    assert identity(beside) == identity(task)


def _options_with_baseline(task: SearchContext) -> InstanasOptions:
    assert isinstance(task.options, InstanasOptions)
    return task.options.model_copy(update={"baseline": True})


def test_a_stop_leaves_the_network_that_was_searched_for(searched: Searched) -> None:
    task, result, _ = searched
    first = 1 + planned_steps(task.splits.train, task.final)
    asked = iter([False] * first)
    stopped = dataclasses.replace(
        task,
        options=_options_with_baseline(task),
        callbacks=CallbacksOf(should_stop=lambda: next(asked, True)),
    )
    final = method.train_final(stopped, result)
    assert final.details["instanas"]["baseline"] is None
    assert isinstance(final.network, Routed)


def test_without_the_weights_of_a_search_nothing_is_trained(
    searched: Searched, tmp_path: Path
) -> None:
    task, result, _ = searched
    with pytest.raises(InputError, match="run the step search again"):
        method.train_final(dataclasses.replace(task, weights=tmp_path), result)


# --- bad input ----------------------------------------------------------------------------------


def test_a_target_that_no_policy_reaches_is_told_before_anything_is_trained(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(
        tmp_path / "run",
        digits_folder,
        table="measure",
        latency=LatencyConfig(target_ms=0.001, runs=20, warmup_runs=1),
    )
    monkeypatch.setattr(method, "train_by_dropping", None)  # would fail if it were called
    with pytest.raises(InputError, match=r"an image costs [\d.]+ to [\d.]+ ms") as told:
        method.pretrain(task)
    assert told.value.problems[0].key == "latency.target_ms"


def test_a_window_that_is_empty_is_told_before_anything_is_trained(
    tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path / "run", digits_folder, reward={"end": 0.01})
    monkeypatch.setattr(method, "train_by_dropping", None)
    with pytest.raises(InputError, match="upper end of the window") as told:
        method.pretrain(task)
    assert told.value.problems[0].key == "search.options.reward"


def test_a_table_of_another_network_is_refused(tmp_path: Path, digits_folder: Path) -> None:
    latency = LatencyConfig(runs=20, warmup_runs=1)
    task = make_task(tmp_path / "run", digits_folder, table="measure", latency=latency)
    graph = new_graph(task)
    costs.make_table(task, graph, new_controller(task, graph))
    file = task.state / costs.FILE
    wider = MobileSpaceConfig(**{**SPACE.model_dump(), "width": 2.0})
    other = make_task(tmp_path / "other", digits_folder, table=str(file), latency=latency)
    other = dataclasses.replace(
        other,
        space=make_space(wider),
        search=other.search.model_copy(update={"space": wider}),
    )
    with pytest.raises(InputError, match="nas profile") as told:
        method.pretrain(other)
    assert told.value.problems[0].key.startswith("search.options.table")


def test_a_table_of_nas_profile_is_taken(tmp_path: Path, digits_folder: Path) -> None:
    """It holds the controller, too, and everything as it is deployed."""
    latency = LatencyConfig(runs=20, warmup_runs=1)
    file = tmp_path / "table.json"
    task = make_task(tmp_path / "run", digits_folder, table=str(file), latency=latency)
    assert isinstance(task.options, InstanasOptions)
    made, _, _ = profile_policies(
        SPACE, task.shape, latency, num_checked=10, policy=task.options.controller
    )
    made.save(file)
    graph = new_graph(task)
    table = costs.make_table(task, graph, new_controller(task, graph))
    assert table.unit == "ms"
    assert 0 < table.controller < table.baseline_max + table.fixed + table.controller
    assert not (task.state / costs.FILE).exists()  # nothing is measured again
