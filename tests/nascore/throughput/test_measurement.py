"""Throughput of loops whose duration is known, and of the real ones."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from nascore.config import TrainingConfig
from nascore.throughput.measurement import (
    BARE,
    MIN_ROUNDS,
    OURS,
    SWITCHES,
    TORCHVISION,
    Loop,
    make_loops,
    measure,
    training_loop,
)
from nascore.throughput.plain_loops import NETWORKS, bare_loop, torchvision_loop

CPU = torch.device("cpu")


def sleeping(seconds: float) -> Callable[[int], None]:
    return lambda count: time.sleep(count * seconds)


def computing(seconds: float) -> Callable[[int], None]:
    def steps(count: int) -> None:
        end = time.process_time() + count * seconds
        while time.process_time() < end:
            pass

    return steps


def test_rates_and_ratios_are_of_images() -> None:
    loops = [
        Loop("net", BARE, sleeping(0.02)),
        Loop("net", "slow", sleeping(0.08)),
        Loop("net", "busy", computing(0.02)),
    ]
    bare, slow, busy = measure(loops, seconds=0.5, batch_size=10, device=CPU)
    assert bare.ratio_to_bare == 1
    assert 250 < bare.images_per_s <= 500
    assert 0.2 < slow.ratio_to_bare < 0.35, "a quarter of the images in the same time"
    assert slow.cpu_ms_per_image < 1 < busy.cpu_ms_per_image < 4


def test_the_loops_of_a_round_follow_each_other() -> None:
    turns: list[str] = []
    loops = [Loop("net", BARE, sleeping(0.01)), Loop("net", "other", sleeping(0.01))]
    measure(loops, seconds=0.05, batch_size=1, device=CPU, on_turn=lambda o: turns.append(o.name))
    assert turns == [BARE, "other"] * (1 + MIN_ROUNDS)


@pytest.mark.parametrize("network", ["residual", "resnet18"])
def test_all_loops_of_a_network_train_it(network: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        OURS: {"crop_padding": 4},
        "clipped": {"max_grad_norm": 1.0},
    }
    loops = make_loops(network, settings, batch_size=4, device=CPU, on_message=pytest.fail)
    assert [loop.name for loop in loops] == [BARE, TORCHVISION, OURS, "clipped"]
    for loop in loops:
        loop.steps(1)


def test_a_turn_of_the_training_loop_makes_as_many_updates_as_asked() -> None:
    batches: list[int] = []

    def built() -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        network.register_forward_hook(lambda _, given, __: batches.append(len(given[0])))
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "linear", built)
        loop = training_loop("linear", OURS, TrainingConfig(batch_size=8), CPU, pytest.fail)
    for count in (1, 3, 60):
        batches.clear()
        loop.steps(count)
        assert batches == [8] * count, "also beyond the end of an epoch"


def test_a_loop_that_is_not_what_was_asked_for_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda network, **options: fails)
    messages: list[str] = []
    settings: dict[str, dict[str, Any]] = {OURS: {}, "compiled": {"compile": True}}
    loops = make_loops("residual", settings, batch_size=4, device=CPU, on_message=messages.append)
    assert [loop.name for loop in loops] == [BARE, TORCHVISION, OURS]
    (message,) = messages
    assert message.startswith("residual: compiled: left out: ")
    assert "no compiler" in message


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_is_a_valid_setting(name: str) -> None:
    plain = TrainingConfig()
    assert TrainingConfig.model_validate(SWITCHES[name]) != plain


@pytest.mark.parametrize("count", [1, 3])
def test_plain_loops_make_as_many_updates_as_asked(count: int) -> None:
    images = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(10) % 2
    for kind in (bare_loop, torchvision_loop):
        linear = nn.Linear(3 * 32 * 32, 2)
        network = nn.Sequential(nn.Flatten(), linear)
        batches: list[torch.Size] = []
        network.register_forward_hook(lambda _, given, __, to=batches: to.append(given[0].shape))
        before = linear.weight.detach().clone()
        if kind is bare_loop:
            bare_loop(network, images[:4].float(), labels[:4])(count)
        else:
            torchvision_loop(network, images, labels, 4)(count)
        assert batches == [torch.Size([4, 3, 32, 32])] * count
        assert not torch.equal(linear.weight, before)
