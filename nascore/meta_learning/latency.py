"""How long a few-shot network takes: to learn a task, and then to answer.

The four convolutions of MAML go beside it in the same loop, so that both meet the same
disturbances. Both are timed as they are used, from arrays to arrays, with real images: what is
measured is what somebody waits for.
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
    thread_limit,
)
from nascore.meta_learning.task_adaptation import Adapter, Answer

Task = Mapping[str, NDArray[Any]]
"""`support_x`, `support_y` and `query_x`."""

_T = TypeVar("_T")
_ANSWERS = 4  # single images that are answered for each task that is learned


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one network.

    Attributes:
        adaptation: to learn a task.
        prediction: to answer for `batch_size` images of a task that has been learned.
        batch_size: one; of a transductive network all query images of a task, which it must see at
            once to be as accurate as it was found to be.
    """

    adaptation: TimeStatistics
    prediction: TimeStatistics
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
        Latency(TimeStatistics.of(one), TimeStatistics.of(other), size)
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


def _timed(call: Callable[[], _T]) -> tuple[float, _T]:
    return elapsed_ms(call, is_cuda=torch.cuda.is_initialized())


def as_latency(latency: Latency, device: torch.device, config: LatencyConfig) -> LatencyResult:
    """Return the time of an answer in the form of other networks' latencies."""
    with thread_limit(config.threads):
        threads = torch.get_num_threads()
    return LatencyResult.of(
        latency.prediction,
        batch_size=latency.batch_size,
        device=device,
        threads=threads,
        warmup_runs=config.warmup_runs,
    )
