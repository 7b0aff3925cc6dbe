"""Latency of a trained routed network on this machine, image by image.

Each image goes alone through the controller and the operations that it chooses, as `run_one`
computes them. The network that has the first operation everywhere, MobileNetV2 of that size, is
measured in the same loop, so that disturbances affect both alike. Both have their batch
normalisation folded.

B images, L blocks, O operations, C channels.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore.config import LatencyConfig
from nascore.latency.benchmark import (
    LatencyResult,
    TimeStatistics,
    elapsed_ms,
    no_garbage_collection,
    resolve_device,
)
from nascore.latency.space_profile import spearman_of
from nascore.methods.instanas.controller import greedy
from nascore.methods.instanas.export import MaskedModel, RoutedModel, folded
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.routing import run_one
from nascore.threads import thread_limit

BATCH = 256
_BATCH_RUNS = 5


@dataclass(frozen=True, slots=True)
class PerImage:
    """Latencies in milliseconds, medians unless noted.

    Attributes:
        controller_ms: latency of the controller, which is part of the latency of an image.
        baseline_ms: latency of the network that has the first operation everywhere.
        saving: fraction by which the median image is faster than `baseline_ms`.
        predicted_ms: prediction of the latency table, the mean over the images; None where the
            table counts multiply-adds.
        mean_absolute_error: of the prediction for each image, as a fraction of its latency; None
            where `predicted_ms` is None.
        spearman: rank correlation of prediction and latency over the images; None where all have
            the same prediction. Most images are measured once, so both figures include the scatter
            of the clock; those of `nas profile` do not.
        num_images: number of distinct images that were measured.
        batch_speedup: of a batch of `batch_size` images in groups of equal operations, relative to
            all operations on all images with a mask.
    """

    controller_ms: float
    baseline_ms: float
    saving: float
    predicted_ms: float | None
    mean_absolute_error: float | None
    spearman: float | None
    num_images: int
    batch_size: int
    batch_speedup: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.inference_mode()
def measure(
    network: Routed, images_NCHW: Tensor, config: LatencyConfig, *, unit: str
) -> tuple[LatencyResult, PerImage]:
    """Measure `config.runs` images, one at a time; images repeat if there are fewer.

    Args:
        images_NCHW: normalised images, the inputs of the network.
        unit: unit of the network's latency table.

    Raises:
        InputError: `latency.device` is cuda and there is none.
    """
    device = resolve_device(config)
    controller = folded(network.controller).to(device)
    graph = folded(network.meta_graph).to(device)
    first_LO = torch.zeros(graph.policy_shape, dtype=torch.bool)
    first_LO[:, 0] = True
    plain = graph.static(first_LO).eval()
    images_NCHW = images_NCHW.to(device)

    def decide(x_1CHW: Tensor) -> Tensor:
        return greedy(controller(x_1CHW))[0]

    def routed(x_1CHW: Tensor) -> Tensor:
        return run_one(graph, x_1CHW, decide(x_1CHW))

    with thread_limit(config.threads), no_garbage_collection():
        times = _alternating((routed, plain, decide), images_NCHW, config, device)
        used_threads = torch.get_num_threads()
        speedup = _batch_speedup(network, images_NCHW[:BATCH], device)
    ours, theirs, deciding = times
    num_images = min(len(images_NCHW), config.runs)
    policy_NLO = network.policy(images_NCHW[:num_images].to(network.constant))
    predicted_N = network.latency(policy_NLO).double().cpu().numpy()
    took_N = _by_image(ours, num_images)
    baseline = float(np.median(theirs))
    result = LatencyResult.of(
        TimeStatistics.of(ours),
        batch_size=1,
        device=device,
        threads=used_threads,
        warmup_runs=config.warmup_runs,
    )
    return result, PerImage(
        controller_ms=float(np.median(deciding)),
        baseline_ms=baseline,
        saving=1 - result.p50_ms / baseline,
        predicted_ms=float(predicted_N.mean()) if unit == "ms" else None,
        mean_absolute_error=(
            float(np.mean(np.abs(predicted_N / took_N - 1))) if unit == "ms" else None
        ),
        spearman=spearman_of(predicted_N, took_N),
        num_images=num_images,
        batch_size=min(BATCH, len(images_NCHW)),
        batch_speedup=speedup,
    )


def _alternating(
    calls: tuple[Callable[[Tensor], Tensor], ...],
    images_NCHW: Tensor,
    config: LatencyConfig,
    device: torch.device,
) -> list[NDArray[np.float64]]:
    """Return the milliseconds of each call on each image, (runs,) per call.

    Warm-up runs come first, on the last images, and do not count.
    """
    times: list[list[float]] = [[] for _ in calls]
    for run in range(-config.warmup_runs, config.runs):
        x_1CHW = images_NCHW[run % len(images_NCHW)][None]
        for call, taken in zip(calls, times, strict=True):
            taken.append(_timed(lambda: call(x_1CHW), device))  # noqa: B023  # called at once
    return [np.array(taken[config.warmup_runs :]) for taken in times]


def _by_image(times_R: NDArray[np.float64], num_images: int) -> NDArray[np.float64]:
    """Return the median of the runs of each image, (N,)."""
    return np.array([np.median(times_R[place::num_images]) for place in range(num_images)])


def _batch_speedup(network: Routed, images_BCHW: Tensor, device: torch.device) -> float:
    """Return the speed-up of groups over masks, controller included, from medians of runs."""
    cost_LO, constant = network.cost_LO, float(network.constant)
    models = [
        kind(network.controller, network.meta_graph, cost_LO=cost_LO, constant=constant)
        .to(device)
        .eval()
        for kind in (RoutedModel, MaskedModel)
    ]
    times: list[list[float]] = [[], []]
    for _ in range(1 + _BATCH_RUNS):
        for model, taken in zip(models, times, strict=True):
            taken.append(_timed(lambda: model(images_BCHW), device))  # noqa: B023  # called at once
    grouped, masked = (float(np.median(taken[1:])) for taken in times)
    return masked / grouped


def _timed(call: Callable[[], Any], device: torch.device) -> float:
    ms, _ = elapsed_ms(call, is_cuda=device.type == "cuda")
    return ms
