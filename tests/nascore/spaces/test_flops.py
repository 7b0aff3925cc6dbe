"""Counts against numbers done by hand."""

import pytest
import torch
from torch import nn

from nascore.spaces import ops
from nascore.spaces.base import ImageShape
from nascore.spaces.flops import Cost, count

SHAPE = ImageShape(channels=3, size=8, num_classes=10)


def network(*layers: nn.Module, channels: int = 3) -> nn.Sequential:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return nn.Sequential(*layers, *head)


HEAD = Cost(3 * 10 + 10, (3 + 1) * 10, 10 + 0.4 + 1000)


def test_linear_counts_its_bias() -> None:
    assert count(network(), SHAPE) == HEAD
    without = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10, bias=False))
    assert count(without, SHAPE) == Cost(1920, 1920, 10 + 19.2 + 1000)


def test_convolution() -> None:
    cost = count(network(ops.conv(3, 3, 3)), SHAPE)
    own = 3 * 3 * 9 * 64
    assert cost.num_params == HEAD.num_params + 3 * 3 * 9
    assert cost.macs == HEAD.macs + own
    assert cost.update_cost == pytest.approx(HEAD.update_cost + 3 * 64 + own / 100 + 1000)


def test_strided_convolution_counts_the_smaller_map() -> None:
    cost = count(network(ops.conv(3, 3, 5, stride=2)), SHAPE)
    assert cost.macs - HEAD.macs == 3 * 3 * 25 * 16


def test_separable_convolution() -> None:
    cost = count(network(ops.separable(3, 7, 5), channels=7), SHAPE)
    assert cost.num_params == 3 * 25 + 3 * 7 + 7 * 10 + 10
    assert cost.macs == (3 * 25 + 3 * 7) * 64 + 8 * 10
    depthwise, pointwise = 3 * 25 * 64, 3 * 7 * 64
    added = (3 + 7) * 64 + (depthwise + pointwise) / 100 + 0.15 * depthwise + 2 * 1000
    head = 10 + 8 * 10 / 100 + 1000
    assert cost.update_cost == pytest.approx(head + added)


def test_batch_norm_has_parameters_and_no_macs() -> None:
    cost = count(network(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), SHAPE)
    assert cost == Cost(HEAD.num_params + 6, HEAD.macs, HEAD.update_cost)


def test_a_module_that_runs_twice() -> None:
    shared = ops.conv(3, 3, 1)
    cost = count(network(shared, shared), SHAPE)
    assert (cost.num_params, cost.macs) == (HEAD.num_params + 9, HEAD.macs + 2 * 9 * 64)
    once = 3 * 64 + 9 * 64 / 100 + 1000
    assert cost.update_cost == pytest.approx(HEAD.update_cost + 2 * once)


def test_the_network_is_left_as_it_was() -> None:
    subject = network(ops.conv(3, 3, 3), nn.BatchNorm2d(3))
    subject[1].eval()
    state = {name: value.clone() for name, value in subject.state_dict().items()}
    count(subject, SHAPE)
    assert subject.training
    assert not subject[1].training
    assert all(torch.equal(value, state[name]) for name, value in subject.state_dict().items())
    assert not any(module._forward_hooks for module in subject.modules())
