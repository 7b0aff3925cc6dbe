"""The protocol of the latency measurement."""

import dataclasses
import gc
import json
import time
from datetime import UTC, datetime

import pytest
import torch
from torch import Tensor, nn

from nascore.config import LatencyConfig
from nascore.errors import InputError
from nascore.latency.benchmark import LatencyResult, TimeStatistics, elapsed_ms, measure
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.spaces.chain.config import ChainSpaceConfig

SHAPE = ImageShape(channels=1, size=8, num_classes=10)


class Probe(nn.Module):
    """Answers like a network, and notes how it was called; each call takes the next duration."""

    def __init__(self, durations_ms: tuple[float, ...] = (0.0,)) -> None:
        super().__init__()
        self.head = nn.Linear(1, 10)
        self.durations_ms = durations_ms
        self.calls: list[dict[str, object]] = []

    def forward(self, x_BCHW: Tensor) -> Tensor:
        duration_ms = self.durations_ms[len(self.calls) % len(self.durations_ms)]
        self.calls.append(
            {
                "shape": tuple(x_BCHW.shape),
                "training": self.training,
                "inference": torch.is_inference_mode_enabled(),
                "threads": torch.get_num_threads(),
                "collecting": gc.isenabled(),
            }
        )
        time.sleep(duration_ms / 1e3)
        return self.head(x_BCHW.mean(dim=(2, 3)))


def config(**changes: object) -> LatencyConfig:
    return LatencyConfig(**{"device": "cpu", "warmup_runs": 3, "runs": 20, **changes})


def test_every_call_follows_the_protocol() -> None:
    probe = Probe()
    result = measure(probe, SHAPE, config(batch_size=4, threads=1))
    assert len(probe.calls) == 3 + 20
    expected = {
        "shape": (4, 1, 8, 8),
        "training": False,
        "inference": True,
        "threads": 1,
        "collecting": False,
    }
    assert all(call == expected for call in probe.calls)
    assert (result.batch_size, result.threads, result.warmup_runs, result.runs) == (4, 1, 3, 20)


def test_statistics_are_of_the_counted_runs() -> None:
    """Slow warm-up runs, then 18 of 1 ms and 2 of 40 ms; bounds allow for a busy host."""
    durations_ms = (200.0,) * 3 + (1.0,) * 18 + (40.0,) * 2
    result = measure(Probe(durations_ms), SHAPE, config())
    assert 1.0 <= result.min_ms <= result.p50_ms < 40
    assert 40.0 <= result.p95_ms < 150  # linear between the 19th and 20th of 20 values
    assert (18 + 80) / 20 <= result.mean_ms < 40
    assert 1 < result.std_ms < 50


def test_the_process_is_left_as_it_was() -> None:
    threads = torch.get_num_threads()
    network = nn.Sequential(nn.BatchNorm2d(1), Probe())
    network[0].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure(network, SHAPE, config(threads=1 if threads > 1 else 2))
    assert torch.get_num_threads() == threads
    assert gc.isenabled()
    assert network.training
    assert not network[0].training
    assert network[1].training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network(torch.zeros(2, 1, 8, 8)).requires_grad


def test_a_failing_network_leaves_the_process_as_it_was() -> None:
    class Broken(Probe):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            raise RuntimeError("broken")

    threads, network = torch.get_num_threads(), Broken()
    with pytest.raises(RuntimeError, match="broken"):
        measure(network, SHAPE, config(threads=1 if threads > 1 else 2))
    assert torch.get_num_threads() == threads
    assert network.training
    assert gc.isenabled()


def test_the_result_says_where_it_comes_from() -> None:
    result = measure(Probe(), SHAPE, config())
    assert result.torch_version == torch.__version__
    assert result.threads == torch.get_num_threads()
    assert len(result.device) > 2
    age = datetime.now(UTC) - datetime.fromisoformat(result.date)
    assert 0 <= age.total_seconds() < 60


def test_json_round_trip() -> None:
    result = measure(Probe(), SHAPE, config())
    data = json.loads(json.dumps(result.to_dict()))
    assert LatencyResult.from_dict({**data, "step": {"seconds": 1}}) == result
    with pytest.raises(ValueError, match="version must be 1, got 2"):
        LatencyResult.from_dict({**data, "version": 2})
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.runs = 1  # type: ignore[misc]


def test_a_real_network() -> None:
    space = make_space(ChainSpaceConfig())
    network = space.build(make_genotype(space, [1] * 20), SHAPE)
    result = measure(network, SHAPE, config())
    assert 0 < result.min_ms <= result.p50_ms <= result.p95_ms < 1000


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_an_input_error() -> None:
    probe = Probe()
    with pytest.raises(InputError, match=r"latency\.device = cuda: there is no CUDA device"):
        measure(probe, SHAPE, config(device="cuda"))
    assert probe.calls == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_waits_for_the_kernels() -> None:
    """Large products take longer than their launch; without a synchronisation they would not."""

    class Heavy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4096, 4096))

        def forward(self, x_BCHW: Tensor) -> Tensor:
            out = self.weight
            for _ in range(8):
                out = out @ self.weight
            return out

    network = Heavy()
    result = measure(network, SHAPE, config(device="cuda"))
    assert result.device == torch.cuda.get_device_name()
    assert result.p50_ms > 1.0  # 1.1e12 multiply-adds
    assert network.weight.device.type == "cpu"


def test_statistics_by_hand() -> None:
    times = TimeStatistics.of([4.0, 1.0, 3.0, 2.0])
    assert (times.p50_ms, times.mean_ms, times.min_ms, times.runs) == (2.5, 2.5, 1.0, 4)
    assert times.p95_ms == pytest.approx(3.85)
    assert times.std_ms == pytest.approx((5 / 3) ** 0.5)
    result = LatencyResult.of(
        times, batch_size=2, device=torch.device("cpu"), threads=3, warmup_runs=5
    )
    assert (result.p50_ms, result.runs, result.batch_size) == (2.5, 4, 2)
    assert (result.threads, result.warmup_runs) == (3, 5)
    assert result.torch_version == torch.__version__


def test_a_call_is_timed_and_its_result_is_returned() -> None:
    ms, result = elapsed_ms(lambda: time.sleep(0.01) or "done", is_cuda=False)
    assert result == "done"
    assert 10 <= ms < 1000
