"""Latency of few-shot networks: time to learn a task, and time to predict.

Several networks are measured alternately in one loop, so that other load on the machine slows all
of them. They are timed as they are used, from arrays to arrays, with real images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray

from nascore.config import LatencyConfig
from nascore.latency.benchmark import (
    LatencyResult,
    TimeStatistics,
    elapsed_ms,
    no_garbage_collection,
)
from nascore.meta_learning.task_adaptation import Adapter, Answer
from nascore.threads import thread_limit

TaskArrays = Mapping[str, NDArray[Any]]
"""`support_x`, `support_y` and `query_x`."""

_T = TypeVar("_T")
_PREDICTIONS = 4  # calls for each task that is learned


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one network.

    Attributes:
        adaptation: time to learn a task.
        prediction: time to predict `batch_size` images of a learned task.
        batch_size: 1; for a transductive network all queries of a task, which it needs at once to
            reach its measured accuracy.
    """

    adaptation: TimeStatistics
    prediction: TimeStatistics
    batch_size: int = 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    adapters: Sequence[Adapter], tasks: Sequence[TaskArrays], config: LatencyConfig
) -> list[Latency]:
    """Measure networks alternately, each on all tasks.

    A task is learned for every fourth prediction; warm-up runs of both come first.

    Args:
        adapters: networks, on the device of the measurement.
        tasks: repeated when there are fewer than runs.
        config: runs, warm-up runs and threads.

    Returns:
        The times of each network.
    """
    warm_up = -(-max(config.warmup_runs, 1) // _PREDICTIONS)
    rounds = max(2, -(-config.runs // _PREDICTIONS))  # one value has no standard deviation
    learned: list[list[float]] = [[] for _ in adapters]
    predicted: list[list[float]] = [[] for _ in adapters]
    with thread_limit(config.threads), no_garbage_collection():
        for number in range(-warm_up, rounds):
            task = tasks[number % len(tasks)]
            for place, adapter in enumerate(adapters):
                took, times = _learn_and_predict(adapter, task)
                if number >= 0:
                    learned[place].append(took)
                    predicted[place] += times
    sizes = [
        len(tasks[0]["query_x"]) if adapter.settings.transductive else 1 for adapter in adapters
    ]
    return [
        Latency(TimeStatistics.of(one), TimeStatistics.of(other), size)
        for one, other, size in zip(learned, predicted, sizes, strict=True)
    ]


def _learn_and_predict(adapter: Adapter, task: TaskArrays) -> tuple[float, list[float]]:
    took, predict = _timed(lambda: adapter.adapt(task["support_x"], task["support_y"]))
    queries = task["query_x"]
    images = [queries[number % len(queries)][None] for number in range(_PREDICTIONS)]
    if adapter.settings.transductive:
        images = [queries] * _PREDICTIONS
    return took, [_prediction_ms(predict, image) for image in images]


def _prediction_ms(predict: Callable[[Any], Answer], image: NDArray[Any]) -> float:
    took, _ = _timed(lambda: predict(image))
    return took


def _timed(call: Callable[[], _T]) -> tuple[float, _T]:
    return elapsed_ms(call, is_cuda=torch.cuda.is_initialized())


def as_latency(latency: Latency, device: torch.device, config: LatencyConfig) -> LatencyResult:
    """Return the time of a prediction in the form of other networks' latencies."""
    with thread_limit(config.threads):
        threads = torch.get_num_threads()
    return LatencyResult.of(
        latency.prediction,
        batch_size=latency.batch_size,
        device=device,
        threads=threads,
        warmup_runs=config.warmup_runs,
    )
