"""Times of a routed network, image by image, against the clock of this machine."""

import pytest
import torch

from nascore.config import LatencyConfig, MobileSpaceConfig
from nascore.instanas.controller import make_policy_network
from nascore.instanas.metagraph import make_metagraph
from nascore.instanas.per_image import measure
from nascore.instanas.routed import Routed
from nascore.instanas.table import macs_table
from nascore.spaces import ImageShape
from nascore.spaces.mobile import MobileSpace

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
        assert about.predicted_ms is None  # the table counts multiply-adds
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
