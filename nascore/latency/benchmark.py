"""Measurement of the latency of a network; the result contains the protocol."""

import gc
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nascore.config import LatencyConfig
from nascore.errors import ResourceUnavailable
from nascore.spaces.base import ImageShape
from nascore.spaces.ops import evaluation_mode
from nascore.stored import read_stored
from nascore.threads import thread_limit

VERSION = 1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TimeStatistics:
    """Statistics of the wall times of several runs, in milliseconds.

    Attributes:
        p50_ms, p95_ms: percentiles.
        std_ms: standard deviation over the runs (n - 1).
        min_ms: fastest run, with the least interference by other processes.
        runs: number of runs.
    """

    p50_ms: float
    p95_ms: float
    mean_ms: float
    std_ms: float
    min_ms: float
    runs: int

    @classmethod
    def of(cls, times_ms: Sequence[float] | NDArray[np.float64]) -> "TimeStatistics":
        """Return the statistics of at least two runs."""
        times = np.asarray(times_ms)
        p50, p95 = np.percentile(times, [50, 95])
        return cls(
            p50_ms=float(p50),
            p95_ms=float(p95),
            mean_ms=float(times.mean()),
            std_ms=float(times.std(ddof=1)),
            min_ms=float(times.min()),
            runs=len(times),
        )


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Wall time of one forward pass of a batch, and how it was measured.

    Attributes:
        p50_ms, p95_ms, mean_ms, std_ms, min_ms, runs: see `TimeStatistics`.
        device: name of the CPU or GPU.
        threads: CPU threads of the process during the measurement.
        warmup_runs: runs before those that count.
        date: ISO 8601, UTC.
    """

    p50_ms: float
    p95_ms: float
    mean_ms: float
    std_ms: float
    min_ms: float
    batch_size: int
    device: str
    threads: int
    warmup_runs: int
    runs: int
    torch_version: str
    date: str
    version: int = VERSION

    @classmethod
    def of(
        cls,
        times: TimeStatistics,
        *,
        batch_size: int,
        device: torch.device,
        threads: int,
        warmup_runs: int,
    ) -> "LatencyResult":
        """Return the result of a measurement that has ended now."""
        return cls(
            **asdict(times),
            batch_size=batch_size,
            device=device_name(device),
            threads=threads,
            warmup_runs=warmup_runs,
            torch_version=torch.__version__,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "LatencyResult":
        """Read what `to_dict` returned; further keys are ignored.

        Raises:
            ValueError: Another version wrote it.
        """
        return read_stored(cls, data, version=VERSION, name="latency")


def measure(network: nn.Module, shape: ImageShape, config: LatencyConfig) -> LatencyResult:
    """Time the forward pass of a batch of random images, one run after the other.

    Warm-up runs come first and do not count. The images are on the device already: moving them is
    not timed. On a GPU the device is synchronised before the clock starts and before it is read.
    Garbage is collected before and not during the runs. Modes, device and number of threads are
    restored afterwards, also when a run fails.

    Args:
        network: is moved to the device of the measurement and back.
        shape: shape of the images.
        config: batch size, device, threads, runs and warm-up runs.

    Raises:
        ResourceUnavailable: `latency.device` is cuda and there is none.
    """
    device = resolve_device(config)
    # A network of another runtime has no parameters that could be moved.
    home = next((weights.device for weights in network.parameters()), device)
    with thread_limit(config.threads), evaluation_mode(network):
        try:
            network.to(device)
            times_ms = _time(network, shape, config, device)
            used_threads = torch.get_num_threads()
        finally:
            network.to(home)
    return LatencyResult.of(
        TimeStatistics.of(times_ms),
        batch_size=config.batch_size,
        device=device,
        threads=used_threads,
        warmup_runs=config.warmup_runs,
    )


def device_name(device: torch.device) -> str:
    """Return the model of the GPU or CPU as reported by the system."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _time(
    network: nn.Module, shape: ImageShape, config: LatencyConfig, device: torch.device
) -> list[float]:
    generator = torch.Generator().manual_seed(0)  # fixed values; which ones does not matter
    x_BCHW = torch.randn(
        config.batch_size, shape.channels, shape.size, shape.size, generator=generator
    ).to(device)
    times_ms = []
    with torch.inference_mode(), no_garbage_collection():
        for run in range(config.warmup_runs + config.runs):
            ms, _ = elapsed_ms(lambda: network(x_BCHW), is_cuda=device.type == "cuda")
            if run >= config.warmup_runs:
                times_ms.append(ms)
    return times_ms


def elapsed_ms(call: Callable[[], _T], *, is_cuda: bool) -> tuple[float, _T]:
    """Return the wall time of a call in milliseconds, and its result.

    Args:
        call: what is timed.
        is_cuda: wait for the GPU before the clock starts and before it is read.
    """
    if is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter_ns()
    result = call()
    if is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter_ns() - start) / 1e6, result


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage before the block, and not inside."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def resolve_device(config: LatencyConfig) -> torch.device:
    """Return the device of the measurement.

    Raises:
        ResourceUnavailable: `latency.device` is cuda and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ResourceUnavailable.of(
            "latency.device", "cuda", "there is no CUDA device here; use cpu or auto"
        )
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)
