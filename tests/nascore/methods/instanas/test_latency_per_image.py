"""Times of a routed network, image by image, against the clock of this machine."""

from collections.abc import Callable

import pytest
import torch

from nascore.config import LatencyConfig
from nascore.methods.instanas.controller import make_policy_network
from nascore.methods.instanas.cost_table import macs_table
from nascore.methods.instanas.latency_per_image import measure
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.supernet import MetaGraph, make_metagraph
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace

SPACE = MobileSpaceConfig(stages=((8, 1, 1), (8, 3, 1)), stem_channels=8, head_channels=16)
CONFIG = LatencyConfig(runs=40, warmup_runs=5, threads=1)


def routed(bias: float) -> Routed:
    """With a controller that chooses all operations, or as good as none."""
    graph = make_metagraph(MobileSpace(SPACE), ImageShape(3, 8, 4), seed=0)
    controller = make_policy_network(3, graph.policy_shape, seed=1, channels=4, num_stages=1)
    with torch.no_grad():
        controller.head.weight.zero_()
        controller.head.bias.fill_(bias)
    return Routed.by_table(controller, graph, macs_table(graph, controller)).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_few_operations_take_less_than_mobilenet_and_all_take_more(images: torch.Tensor) -> None:
    few, about_few = measure(routed(-9.0), images, CONFIG, unit="macs")
    everything, about_all = measure(routed(9.0), images, CONFIG, unit="macs")
    assert few.p50_ms < everything.p50_ms
    assert about_few.saving > 0 > about_all.saving
    for result, about in ((few, about_few), (everything, about_all)):
        assert 0 < about.controller_ms < result.p50_ms
        assert result.p50_ms == pytest.approx((1 - about.saving) * about.baseline_ms)
        assert result.min_ms <= result.p50_ms <= result.p95_ms
        # The table counts multiply-adds, and all images have one policy.
        assert about.predicted_ms is about.mean_absolute_error is about.spearman is None
        assert about.num_images == 40


def test_a_batch_of_few_operations_is_faster_in_groups(images: torch.Tensor) -> None:
    _, about = measure(routed(-9.0), images, CONFIG, unit="macs")
    assert about.batch_size == 256
    assert about.batch_speedup > 2


def test_the_table_is_told_in_its_own_unit(images: torch.Tensor) -> None:
    network = routed(-9.0)
    _, about = measure(network, images, CONFIG, unit="ms")
    mean = network.latency(network.policy(images[:40])).mean()
    assert about.predicted_ms == pytest.approx(float(mean), rel=1e-6)


def two_kinds(images: torch.Tensor) -> Routed:
    """With a controller that gives bright images all operations, and dark ones as good as none."""
    network = routed(0.0)
    with torch.no_grad():
        for parameter in network.controller.parameters():
            parameter.zero_()
        stem, norm = network.controller.stem[0], network.controller.stem[1]
        stem.weight[0, :, 1, 1] = 1.0  # the brightness of a pixel
        norm.weight[0] = 1.0
        network.controller.head.weight[:, 0] = 100.0
        network.controller.head.bias.fill_(-100.0)
    assert 0.2 < network.policy(images).all(dim=(1, 2)).float().mean() < 0.8
    return network


@pytest.fixture
def bright_and_dark() -> torch.Tensor:
    images = torch.full((40, 3, 8, 8), -2.0)
    images[torch.randperm(40, generator=torch.Generator().manual_seed(0))[:20]] = 2.0
    return images


def test_the_table_is_held_against_each_image(bright_and_dark: torch.Tensor) -> None:
    """Images with many operations take longer: the table tells which, if not how much."""
    network = two_kinds(bright_and_dark)
    _, about = measure(network, bright_and_dark, CONFIG, unit="macs")
    assert about.mean_absolute_error is None
    assert about.spearman is not None
    assert about.spearman > 0.6  # of two kinds, with the scatter of a clock: at most 0.87
    network.cost_LO.neg_()
    _, turned = measure(network, bright_and_dark, CONFIG, unit="macs")
    assert turned.spearman is not None
    assert turned.spearman < -0.6


@pytest.mark.parametrize(("factor", "error"), [(1.0, 0.0), (0.8, 0.25)])
def test_a_prediction_is_compared_with_the_time_of_its_own_image(
    bright_and_dark: torch.Tensor, monkeypatch: pytest.MonkeyPatch, factor: float, error: float
) -> None:
    """On a clock that does what the table says, for images that come again and after a warm-up."""
    network = two_kinds(bright_and_dark)
    images = bright_and_dark[:13]
    chosen: list[torch.Tensor] = []

    def noted(graph: MetaGraph, x_1CHW: torch.Tensor, policy_LO: torch.Tensor) -> None:
        chosen.append(graph.effective(policy_LO[None]))

    def told(call: Callable[[], object], device: torch.device) -> float:
        call()
        return factor * float(network.latency(chosen[-1]))

    monkeypatch.setattr("nascore.methods.instanas.latency_per_image.run_one", noted)
    monkeypatch.setattr("nascore.methods.instanas.latency_per_image._timed", told)
    _, about = measure(network, images, CONFIG, unit="ms")
    assert about.num_images == 13
    assert about.spearman == pytest.approx(1.0)
    assert about.mean_absolute_error == pytest.approx(error, abs=1e-6)
