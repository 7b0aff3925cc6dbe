"""The reference of a search, on real digits: which network it is, and how long it learns."""

import dataclasses
from pathlib import Path

import pytest
import torch
from callbacks import CallbacksOf
from instanas_tasks import SPACE, make_task

from nascore.config import TrainingConfig
from nascore.context import SearchContext
from nascore.methods.instanas.mobilenet_baseline import epochs_of, first_operations, train_baseline
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.instanas.search_points import Point
from nascore.methods.instanas.supernet import make_metagraph
from nascore.spaces.flops import count
from nascore.spaces.mobilenet.network import OPS
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.training.loop import TrainingStopped

POINT = Point(
    number=0,
    step=23,
    shared_accuracy=0.5,
    train_accuracy=0.5,
    latency=1.0,
    num_distinct=2,
    tokens=(1,) * 15,
)


@pytest.fixture
def task(tmp_path: Path, digits_folder: Path) -> SearchContext:
    """Its 340 training images are eleven batches of 32."""
    made = make_task(
        tmp_path, digits_folder, pretraining={"epochs": 4, "batch_size": 32, "lr": 0.1}
    )
    return dataclasses.replace(made, final=TrainingConfig(epochs=3, batch_size=32, lr=0.1))


def test_it_is_the_network_of_the_first_operations(task: SearchContext) -> None:
    space = MobileSpace(SPACE)
    assert space.operations(first_operations(space)) == ((OPS.index("k3e6"),),) * 3


def test_it_learns_for_as_long_as_the_meta_graph_of_the_point(task: SearchContext) -> None:
    """Four epochs, then 23 steps, then three epochs, or what `max_steps` leaves of them."""
    assert task.splits.train.num_images == 340
    assert epochs_of(task, POINT) == round(4 + 23 / 11 + 3) == 9
    options = task.options
    assert isinstance(options, InstanasOptions)
    weights = options.weights.model_copy(update={"batch_size": 64})
    larger = dataclasses.replace(task, options=options.model_copy(update={"weights": weights}))
    assert epochs_of(larger, POINT) == round(4 + 23 / 6 + 3) == 11
    cut_off = task.final.model_copy(update={"max_steps": 1})
    assert epochs_of(dataclasses.replace(task, final=cut_off), POINT) == 6


def test_it_is_trained_and_judged(task: SearchContext) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    callbacks = CallbacksOf(on_metrics=lambda metrics, epoch: told.append((epoch, metrics)))
    noted = dataclasses.replace(task, callbacks=callbacks)
    before = torch.random.get_rng_state()
    found = train_baseline(noted, POINT, latency=2.5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (found.epochs, found.latency) == (9, 2.5)
    assert [epoch for epoch, _ in told] == list(range(9))
    assert told[-1][1] == {"baseline/valid_accuracy": found.valid_accuracy}
    assert found.valid_accuracy > 0.5
    assert found.test_accuracy > 0.5

    graph = make_metagraph(MobileSpace(SPACE), task.shape, seed=0)
    first_LO = torch.zeros(graph.policy_shape, dtype=torch.bool)
    first_LO[:, 0] = True
    plain = count(graph.static(first_LO), task.shape)
    assert (found.num_params, found.macs) == (plain.num_params, plain.macs)


def test_it_stops_when_it_is_told_to(task: SearchContext) -> None:
    with pytest.raises(TrainingStopped):
        train_baseline(
            dataclasses.replace(task, callbacks=CallbacksOf(should_stop=lambda: True)),
            POINT,
            latency=1.0,
        )
