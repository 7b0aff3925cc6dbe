"""How long a few-shot network takes: to learn a task, and then to answer.

The four convolutions of MAML go beside it in the same loop, so that both meet the same
disturbances. Both are timed as they are used, from arrays to arrays, with real images: what is
measured is what somebody waits for.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nascore.config import LatencyConfig
from nascore.latency.benchmark import (
    LatencyResult,
    device_name,
    no_garbage_collection,
    thread_limit,
)
from nascore.meta_learning.task_adaptation import Adapter, Answer

Task = Mapping[str, NDArray[Any]]
"""`support_x`, `support_y` and `query_x`."""

_ANSWERS = 4  # single images that are answered for each task that is learned


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds over `runs` runs; the deviation is n - 1."""

    p50_ms: float
    p95_ms: float
    mean_ms: float
    std_ms: float
    min_ms: float
    runs: int

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> "Times":
        times = np.asarray(milliseconds)
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
class Latency:
    """Of one network.

    Attributes:
        adaptation: to learn a task.
        prediction: to answer for `batch_size` images of a task that has been learned.
        batch_size: one; of a transductive network all query images of a task, which it must see at
            once to be as accurate as it was found to be.
    """

    adaptation: Times
    prediction: Times
    batch_size: int = 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    adapters: Sequence[Adapter], tasks: Sequence[Task], config: LatencyConfig
) -> list[Latency]:
    """Times networks in turn, each on all tasks.

    A task is learned for every fourth image that is answered; warm-up runs come first and do not
    count, at least one of each.

    Args:
        adapters: on the device of the measurement.
        tasks: come again when there are fewer than runs.
    """
    warm_up = -(-max(config.warmup_runs, 1) // _ANSWERS)
    rounds = max(2, -(-config.runs // _ANSWERS))  # one has no deviation
    learned: list[list[float]] = [[] for _ in adapters]
    answered: list[list[float]] = [[] for _ in adapters]
    with thread_limit(config.threads), no_garbage_collection():
        for number in range(-warm_up, rounds):
            task = tasks[number % len(tasks)]
            for place, adapter in enumerate(adapters):
                took, times = _learn_and_answer(adapter, task)
                if number >= 0:
                    learned[place].append(took)
                    answered[place] += times
    sizes = [
        len(tasks[0]["query_x"]) if adapter.settings.transductive else 1 for adapter in adapters
    ]
    return [
        Latency(Times.of(one), Times.of(other), size)
        for one, other, size in zip(learned, answered, sizes, strict=True)
    ]


def _learn_and_answer(adapter: Adapter, task: Task) -> tuple[float, list[float]]:
    took, predict = _timed(lambda: adapter.adapt(task["support_x"], task["support_y"]))
    queries = task["query_x"]
    images = [queries[number % len(queries)][None] for number in range(_ANSWERS)]
    if adapter.settings.transductive:
        images = [queries] * _ANSWERS
    return took, [_answer(predict, image) for image in images]


def _answer(predict: Callable[[Any], Answer], image: NDArray[Any]) -> float:
    took, _ = _timed(lambda: predict(image))
    return took


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, with all that the device has been given, and the result."""
    _wait()
    start = time.perf_counter_ns()
    result = call()
    _wait()
    return (time.perf_counter_ns() - start) / 1e6, result


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def as_latency(latency: Latency, device: torch.device, config: LatencyConfig) -> LatencyResult:
    """The answer, as latencies of other networks are told."""
    times = latency.prediction
    with thread_limit(config.threads):
        threads = torch.get_num_threads()
    return LatencyResult(
        p50_ms=times.p50_ms,
        p95_ms=times.p95_ms,
        mean_ms=times.mean_ms,
        std_ms=times.std_ms,
        min_ms=times.min_ms,
        batch_size=latency.batch_size,
        device=device_name(device),
        threads=threads,
        warmup_runs=config.warmup_runs,
        runs=times.runs,
        torch_version=torch.__version__,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
