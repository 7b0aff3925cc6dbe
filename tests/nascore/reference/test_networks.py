"""Networks of torchvision on images of any size: what is adapted, and which sizes are refused."""

import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

from nascore.errors import Problem
from nascore.reference import networks
from nascore.reference.names import NAMES
from nascore.reference.networks import build_reference, default_names, problems_with
from nascore.spaces.base import ImageShape
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.residual.config import ResidualSpaceConfig

FAMILIES = (
    "standard",
    "resnet18",
    "densenet121",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "regnet_y_400mf",
    "googlenet",
    "convnext_tiny",
    "swin_t",
    "vgg11_bn",
    "alexnet",
    "inception_v3",
)
TOO_SMALL = {  # the smallest of the sizes below that each one takes; the others take all
    "convnext_tiny": 28,
    "vgg11_bn": 32,
    "inception_v3": 96,
}


LARGE = ("vgg11_bn", "alexnet", "inception_v3")  # their weights alone take a second


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_takes_images_of_a_size_or_says_that_it_does_not(name: str) -> None:
    for channels, size in ((3, 8), (3, 28), (3, 32), (1, 32), (3, 64), (1, 96)):
        fault = networks._misfit(name, ImageShape(channels, size, 7))
        assert (fault is not None) == (size < TOO_SMALL.get(name, 0)), (size, fault)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in LARGE])
def test_each_family_learns_from_small_images(name: str, channels: int) -> None:
    size = TOO_SMALL.get(name, 8)
    network = build_reference(name, ImageShape(channels, size, 7))
    x_BCHW = torch.randn(2, channels, size, size)
    logits_BK = network(x_BCHW)
    assert logits_BK.shape == (2, 7)
    nn.functional.cross_entropy(logits_BK, torch.tensor([0, 6])).backward()
    assert all(weights.grad is not None for weights in network.parameters())


def test_small_images_meet_the_stem_of_cifar_and_large_ones_that_of_the_paper() -> None:
    small = build_reference("resnet18", ImageShape(3, 32, 10))
    assert isinstance(small, torchvision.models.ResNet)
    assert (small.conv1.kernel_size, small.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(small.maxpool, nn.Identity)
    large = build_reference("resnet18", ImageShape(1, 64, 10))
    assert isinstance(large, torchvision.models.ResNet)
    assert (large.conv1.kernel_size, large.conv1.stride) == ((7, 7), (2, 2))
    assert large.conv1.in_channels == 1
    assert isinstance(large.maxpool, nn.MaxPool2d)


def test_a_pooling_behind_a_second_convolution_stays() -> None:
    with torch.device("meta"):
        network = build_reference("vgg11_bn", ImageShape(3, 32, 10))
    assert sum(isinstance(module, nn.MaxPool2d) for module in network.modules()) == 5


def test_the_standard_network_is_that_of_the_searched_space() -> None:
    shape = ImageShape(3, 32, 10)

    def size(space: object) -> int:
        network = build_reference("standard", shape, space=space)  # type: ignore[arg-type]
        return sum(weights.numel() for weights in network.parameters())

    small = ResidualSpaceConfig(channels=8)
    assert size(small) < size(None) == size(Cell201SpaceConfig()) == size(ResidualSpaceConfig())


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    build_reference("resnet18", ImageShape(3, 32, 10))


def test_the_default_pair_follows_the_size() -> None:
    assert default_names(63) == ("standard", "resnet18")
    assert default_names(64) == ("standard", "mobilenet_v3_small")


def test_one_message_lists_what_is_wrong_and_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("standard", "resnet18", "inception_v3", "vit_b_16", "regnet_y_400mf")
    monkeypatch.setattr(networks, "NAMES", few)
    (problem,) = problems_with(("inception_v3", "resnet18", "vit_b_16"), ImageShape(1, 8, 10))
    assert problem == Problem("reference", "inception_v3, vit_b_16", problem.message)
    assert "inception_v3 does not take images of 8x8" in problem.message
    assert "vit_b_16 does not take images of 8x8 (Wrong image height!" in problem.message
    assert problem.message.endswith("networks that fit: standard, resnet18, regnet_y_400mf")
    assert problems_with(("resnet18", "standard"), ImageShape(1, 8, 10)) == []


def test_the_names_are_those_of_the_classification_networks_of_torchvision() -> None:
    assert ("standard", *torchvision.models.list_models(module=torchvision.models)) == NAMES
    assert not [name for name in NAMES if "segment" in name or "rcnn" in name]


def test_names_are_known_without_torchvision() -> None:
    code = "import sys, nascore.reference.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
