"""Step 5: measure the latency of the trained network, by a stated protocol."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from components.config.schema import Config
from components.steps.few_shot_tasks import profile_tasks
from components.steps.runtime import Step, execute, read_config
from components.steps.s3_source import open_remote
from components.steps.state import write_json
from nascore.data.batches import Splits, load
from nascore.latency.benchmark import LatencyResult, measure
from nascore.meta_learning.few_shot_model import FewShotLearner
from nascore.methods.instanas.routed_network import Routed
from nascore.spaces.base import make_space
from nascore.training.final_model import FinalModel


def run(
    *, run_key: str, config: Path, dataset: Path, model: Path, latency: Path
) -> dict[str, float]:
    """Writes the measurement as JSON (`nascore.latency.benchmark.LatencyResult`).

    Networks that send images along paths of their own say more below `per_image`, those that learn
    tasks below `few_shot`.
    """
    settings = read_config(config)

    def work(step: Step) -> dict[str, float]:
        final = FinalModel.load(model, make_space(settings.search.space))
        more: dict[str, Any] = {}  # what networks of some kinds have to say beside
        if isinstance(final.network, Routed):
            splits = _load(step, settings, dataset)
            with step.busy("profiling"):
                result, more["per_image"] = _routed(final, final.network, splits, settings)
        elif isinstance(final.network, FewShotLearner):
            splits = _load(step, settings, dataset)
            with step.busy("profiling"):
                result, more["few_shot"] = profile_tasks(final, splits, settings)
        else:
            with step.busy("profiling"):
                result = measure(final.network, final.shape, settings.latency)
        step.tracked.params(result.to_dict())
        step.tracked.metrics(dict(_numbers(more)))
        write_json(latency, {**result.to_dict(), **more, "step": step.timing()})
        return {"latency_p50_ms": result.p50_ms, "latency_p95_ms": result.p95_ms}

    return execute(
        "profile_latency",
        work,
        run_key=run_key,
        config=settings,
        inputs={"model": model},
        outputs={"latency": latency},
    )


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """All numbers below, by their path."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}_")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)


def _load(step: Step, settings: Config, dataset: Path) -> Splits:
    """Images that differ in their networks, or are learned from, must be real ones."""
    with step.busy("data"):
        return load(dataset, torch.device("cpu"), open_remote(settings.data, trusted=True))


def _routed(
    final: FinalModel, network: Routed, splits: Splits, settings: Config
) -> tuple[LatencyResult, dict[str, Any]]:
    """On as many validation images as are timed, and a batch."""
    # Loads scipy's statistics, a second that other networks need not wait for.
    from nascore.methods.instanas.latency_per_image import BATCH
    from nascore.methods.instanas.latency_per_image import measure as measure_images

    x_BCHW, _ = next(splits.valid.eval_batches(max(settings.latency.runs, BATCH)))
    unit = final.details["instanas"]["unit"]
    result, per_image = measure_images(network, x_BCHW, settings.latency, unit=unit)
    return result, per_image.to_dict()
