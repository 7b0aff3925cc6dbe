"""Controller and meta-graph are trained in turn, and neither changes the other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from instanas_tasks import are_equal, make_task, weights_of
from torch import Tensor

from nascore.methods.common.one_shot_loop import Batches
from nascore.methods.instanas import costs, method
from nascore.methods.instanas.alternating_trainer import AlternatingTrainer
from nascore.methods.instanas.networks import load_graph, new_controller


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
