"""Throughput of loops whose duration is known, and of the real ones."""

import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nascore.config import TrainingConfig
from nascore.training.reference_loops import bare_loop, torchvision_loop
from nascore.training.throughput import (
    BARE,
    MIN_ROUNDS,
    OURS,
    TORCHVISION,
    Loop,
    make_loops,
    measure,
)

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
    config = TrainingConfig(batch_size=4, crop_padding=4, flip=True)
    loops = make_loops(network, config, {"clipped": {"max_grad_norm": 1.0}}, CPU)
    assert [loop.name for loop in loops] == [BARE, OURS, TORCHVISION, "clipped"]
    for loop in loops:
        loop.steps(1)


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
