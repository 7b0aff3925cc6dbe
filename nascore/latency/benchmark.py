"""Latency is measured, never estimated, and its protocol travels with the number."""

import gc
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nascore.config import LatencyConfig
from nascore.errors import ResourceUnavailable
from nascore.spaces.base import ImageShape
from nascore.spaces.ops import evaluation_mode

VERSION = 1


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Wall time of one forward pass of a batch, in milliseconds, and how it was measured.

    Attributes:
        std_ms: standard deviation over the runs (n - 1).
        min_ms: the fastest run: what the hardware can do when nothing else disturbs it.
        device: name of the CPU or GPU.
        threads: CPU threads of the process while it was measured.
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "LatencyResult":
        """Keys beyond the attributes are ignored; raises ValueError at another version."""
        if data.get("version") != VERSION:
            raise ValueError(f"latency version must be {VERSION}, got {data.get('version')!r}")
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


def measure(network: nn.Module, shape: ImageShape, config: LatencyConfig) -> LatencyResult:
    """Times the forward pass of a batch of random images, one run after the other.

    Warm-up runs come first and do not count. The images lie on the device already: moving them is
    not timed. On a GPU the device is synchronised before the clock starts and before it is read.
    Garbage is collected before and not during the runs. Modes, device and number of threads are
    afterwards as they were, also when a run fails.

    Raises:
        InputError: `latency.device` is cuda and there is none.
    """
    device = resolve_device(config)
    home = next(network.parameters()).device
    with thread_limit(config.threads), evaluation_mode(network):
        try:
            network.to(device)
            times_ms = np.array(_time(network, shape, config, device))
            used_threads = torch.get_num_threads()
        finally:
            network.to(home)
    return LatencyResult(
        p50_ms=float(np.percentile(times_ms, 50)),
        p95_ms=float(np.percentile(times_ms, 95)),
        mean_ms=float(times_ms.mean()),
        std_ms=float(times_ms.std(ddof=1)),
        min_ms=float(times_ms.min()),
        batch_size=config.batch_size,
        device=device_name(device),
        threads=used_threads,
        warmup_runs=config.warmup_runs,
        runs=config.runs,
        torch_version=torch.__version__,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def device_name(device: torch.device) -> str:
    """The model of the GPU or CPU, as the system calls it."""
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
    generator = torch.Generator().manual_seed(0)  # the values do not matter, but let them be fixed
    x_BCHW = torch.randn(
        config.batch_size, shape.channels, shape.size, shape.size, generator=generator
    ).to(device)
    times_ms = []
    with torch.inference_mode(), no_garbage_collection():
        for run in range(config.warmup_runs + config.runs):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter_ns()
            network(x_BCHW)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if run >= config.warmup_runs:
                times_ms.append((time.perf_counter_ns() - start) / 1e6)
    return times_ms


@contextmanager
def thread_limit(number: int | None) -> Iterator[None]:
    """CPU threads of torch inside the block; as many as before where None."""
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Garbage is collected before the block, and not inside."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def resolve_device(config: LatencyConfig) -> torch.device:
    """The device to measure on; raises InputError when it is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ResourceUnavailable.of(
            "latency.device", "cuda", "there is no CUDA device here; use cpu or auto"
        )
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)
