"""Times of transductive networks, which answer for all images of a task at once."""

import numpy as np
import pytest
from torch import nn
from torch.func import replace_all_batch_norm_modules_

from nascore.config import LatencyConfig
from nascore.meta_learning.conv4 import Conv4
from nascore.meta_learning.latency import TaskArrays, measure
from nascore.meta_learning.task_adaptation import Adapter, Inner, TaskSettings, UnfitTask


def make_adapter(*, transductive: bool) -> Adapter:
    """Its last map is one pixel: a batch norm has no variance over one image."""
    network: nn.Module = Conv4(1, 8, 3, channels=2)
    replace_all_batch_norm_modules_(network)
    inner = Inner("sgd", 0.01, 1)
    return Adapter(network, TaskSettings(3, (1, 8, 8), inner, transductive=transductive))


def make_task() -> TaskArrays:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (9, 1, 8, 8), dtype=np.uint8)
    return {"support_x": pixels[:3], "support_y": np.arange(3), "query_x": pixels[3:]}


@pytest.mark.parametrize(("transductive", "batch_size"), [(False, 1), (True, 6)])
def test_networks_are_timed_as_they_were_judged(transductive: bool, batch_size: int) -> None:
    adapters = [make_adapter(transductive=transductive)] * 2
    found = measure(adapters, [make_task()], LatencyConfig(warmup_runs=1, runs=20))
    for latency in found:
        assert latency.batch_size == batch_size
        assert latency.prediction.runs == 20
        assert latency.adaptation.p50_ms > 0


def test_a_transductive_network_refuses_one_image_alone() -> None:
    task = make_task()
    predict = make_adapter(transductive=True).adapt(task["support_x"], task["support_y"])
    with pytest.raises(UnfitTask, match="give several"):
        predict(task["query_x"][:1])
    assert predict(task["query_x"]).probabilities.shape == (6, 3)
