"""InstaNAS, from pre-training to the trained network, on real digits; costs are multiply-adds."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from callbacks import CallbacksOf
from instanas_tasks import SPACE, make_task
from torch import Tensor

from nascore.config import BudgetConfig, LatencyConfig
from nascore.context import SearchContext
from nascore.errors import InputError, WeightsDivergedError
from nascore.methods.common.one_shot_loop import Batches
from nascore.methods.instanas import costs, method
from nascore.methods.instanas.alternating_trainer import AlternatingTrainer
from nascore.methods.instanas.cost_measurement import profile_policies
from nascore.methods.instanas.mobilenet_baseline import epochs_of
from nascore.methods.instanas.networks import identity, load_graph, new_controller, new_graph
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.instanas.point_checkpoints import POINTS as POINTS_JSON
from nascore.methods.instanas.point_checkpoints import load_point
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.search_points import Point, choose, evaluate
from nascore.results import SearchResult
from nascore.spaces.base import make_space
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.training import checkpoint
from nascore.training.final_model import FinalModel
from nascore.training.loop import planned_steps

KILLED = Path(__file__).parents[3] / "support" / "killed_instanas.py"


def run(task: SearchContext) -> SearchResult:
    method.pretrain(task)
    return method.search(task)


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


# --- the two that alternate ---------------------------------------------------------------------


def weights_of(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def arm(tmp_path: Path, digits_folder: Path) -> AlternatingTrainer:
    task = make_task(tmp_path / "run", digits_folder)
    method.pretrain(task)
    graph = load_graph(task)
    controller = new_controller(task, graph)
    table = costs.load_table(task, graph, controller)
    return AlternatingTrainer(task, "method", graph, controller, table)


def batches(arm: AlternatingTrainer) -> Batches:
    return arm._loop.batches("any", arm._context.splits.train, start=0)


def test_a_decision_changes_the_controller_and_nothing_of_the_meta_graph(
    arm: AlternatingTrainer,
) -> None:
    """Property 4: weights and batch-norm statistics of the meta-graph are the same to the bit."""
    graph, controller = arm._graph, arm._controller
    assert controller is not None
    before, decided = weights_of(graph), weights_of(controller)
    arm._train_controller(*next(batches(arm)))
    assert are_equal(weights_of(graph), before)
    assert all(parameter.grad is None for parameter in graph.parameters())
    assert not are_equal(weights_of(controller), decided)


def test_an_update_of_the_weights_leaves_the_controller(arm: AlternatingTrainer) -> None:
    graph, controller = arm._graph, arm._controller
    assert controller is not None
    before, decided = weights_of(graph), weights_of(controller)
    arm._train_weights(*next(batches(arm)), 0.0)
    assert not are_equal(weights_of(graph), before)
    assert are_equal(weights_of(controller), decided)


def test_they_take_turns(arm: AlternatingTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    decide, learn = AlternatingTrainer._train_controller, AlternatingTrainer._train_weights

    def deciding(self: AlternatingTrainer, *given: Any) -> None:
        turns.append("d")
        decide(self, *given)

    def learning(self: AlternatingTrainer, *given: Any) -> Tensor:
        turns.append("w")
        return learn(self, *given)

    monkeypatch.setattr(AlternatingTrainer, "_train_controller", deciding)
    monkeypatch.setattr(AlternatingTrainer, "_train_weights", learning)
    arm.run()
    assert "".join(turns) == ("d" * 6 + "w" * 6) * 5


def test_wrong_answers_and_latencies_out_of_the_window_teach_differently(
    arm: AlternatingTrainer,
) -> None:
    """The advantage of a sample is what its reward is above that of the greedy policy."""
    x_BCHW, y_B = next(batches(arm))
    everything = torch.ones(len(y_B), *arm._graph.policy_shape, dtype=torch.bool)
    window = arm._schedule.at(0.0)
    dear_B, cheap_B = arm._rewards(x_BCHW, y_B, (everything, torch.zeros_like(everything)), window)
    assert not dear_B.any()  # above the window
    assert not cheap_B.any()  # at its lower end


def test_the_weights_learn_before_the_search(tmp_path: Path, digits_folder: Path) -> None:
    """With random operations left out, the meta-graph answers far above chance."""
    task = make_task(
        tmp_path / "run", digits_folder, pretraining={"epochs": 20, "batch_size": 32, "lr": 0.1}
    )
    metrics = method.pretrain(task)
    assert metrics["valid_accuracy_all_operations"] > 0.6
    assert metrics["valid_accuracy_some_operations"] > 0.5


# --- budgets and deaths -------------------------------------------------------------------------


@pytest.mark.timing
def test_a_budget_of_seconds_holds(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path / "run", digits_folder, budget=BudgetConfig(seconds=6), control=False)
    method.pretrain(task)
    graph = load_graph(task)
    table = costs.load_table(task, graph, new_controller(task, graph))
    arm = method._arm(task, table, "method")
    arm.run()
    assert 5.9 < arm.seconds < 8
    assert [point.name for point in arm.points] == ["A", "B", "C"]


def test_a_search_that_is_told_to_stop_has_an_answer(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path / "run", digits_folder)
    method.pretrain(task)
    asked = iter([False] * 20)
    stopped = dataclasses.replace(
        task, callbacks=CallbacksOf(should_stop=lambda: next(asked, True))
    )
    result = method.search(stopped)
    assert result.verdict is None
    assert 0 < result.valid_accuracy <= 1
    assert method.search(task).verdict is not None  # and it can be gone on with


@pytest.mark.slow
def test_killed_again_and_again_it_goes_on_bit_for_bit(tmp_path: Path, digits_folder: Path) -> None:
    """Real processes, which get SIGKILL: in every kind of update, and while a file is written."""

    def work(folder: Path, *deaths: str) -> list[str]:
        command = [sys.executable, str(KILLED), str(folder), str(digits_folder), *deaths]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    deaths = ("p3", "p1", "s1", "d0", "d4", "w0", "d7", "s2", "w9", "w15", "d22", "w29")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert work(whole) == ["0"]
    assert work(parts, *deaths) == [*["-9"] * len(deaths), "0"]
    assert (parts / "outcome.json").read_text() == (whole / "outcome.json").read_text()
    for name in ("method", "control"):
        kept = [
            checkpoint.load(at / f"{name}.ckpt", f"instanas-{name}")[0] for at in (whole, parts)
        ]
        assert are_equal(*kept)


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path, digits_folder: Path) -> None:
    run(make_task(tmp_path / "run", digits_folder, control=False))
    other = make_task(tmp_path / "run", digits_folder, control=False, seed=1)
    with pytest.raises(InputError, match="is of a search with other settings"):
        method.search(other)


def test_a_damaged_checkpoint_is_never_loaded(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(tmp_path / "run", digits_folder, control=False)
    run(task)
    path = task.state / "method.ckpt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="damaged"):
        method.search(task)


def test_weights_that_diverge_are_told(tmp_path: Path, digits_folder: Path) -> None:
    task = make_task(
        tmp_path / "run", digits_folder, pretraining={"epochs": 2, "batch_size": 32, "lr": 1e30}
    )
    with pytest.raises(WeightsDivergedError, match=r"lower search.options.pretraining.lr=1e\+30"):
        method.pretrain(task)


# --- which point is taken -----------------------------------------------------------------------


def point(number: int, accuracy: float, latency: float) -> Point:
    return Point(
        number=number,
        step=10,
        shared_accuracy=0.1,
        train_accuracy=0.1,
        latency=latency,
        num_distinct=2,
        tokens=(1,),
        valid_accuracy=accuracy,
    )


POINTS = [point(0, 0.90, 3.0), point(1, 0.91, 2.0), point(2, 0.905, 1.5), point(3, 0.80, 1.0)]


def test_the_fastest_within_the_tolerance_is_chosen() -> None:
    assert choose(POINTS, tolerance=0.01, target=None).point.name == "C"
    assert choose(POINTS, tolerance=0.0, target=None).point.name == "B"
    assert choose(POINTS, tolerance=0.2, target=None).point.name == "D"


def test_the_most_accurate_within_the_target_is_chosen() -> None:
    assert choose(POINTS, tolerance=0.0, target=1.7).point.name == "C"
    assert choose(POINTS, tolerance=0.0, target=9.0).point.name == "B"
    none = choose(POINTS, tolerance=0.0, target=0.5)
    assert none.point.name == "D"
    assert "none is within latency.target_ms=0.5" in none.rule


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
