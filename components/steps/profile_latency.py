"""Step 5: measure the latency of the trained network, by a stated protocol."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.config import Config
from components.steps.remote import open_remote
from components.steps.running import Step, execute, read_config
from components.steps.state import write_json
from nascore.data.batches import load
from nascore.final import FinalModel
from nascore.instanas.per_image import BATCH
from nascore.instanas.per_image import measure as measure_images
from nascore.instanas.routed import Routed
from nascore.latency import measure
from nascore.spaces import make_space


def run(
    *, run_key: str, config: Path, dataset: Path, model: Path, latency: Path
) -> dict[str, float]:
    """Writes the measurement as JSON (`nascore.latency.LatencyResult`)."""
    settings = read_config(config)

    def work(step: Step) -> dict[str, float]:
        final = FinalModel.load(model, make_space(settings.search.space))
        more: dict[str, Any] = {}
        if isinstance(final.network, Routed):
            images_NCHW = _valid_images(step, settings, dataset)
            with step.busy("profiling"):
                unit = final.details["instanas"]["unit"]
                result, per_image = measure_images(
                    final.network, images_NCHW, settings.latency, unit=unit
                )
            more = per_image.to_dict()
        else:
            with step.busy("profiling"):
                result = measure(final.network, final.shape, settings.latency)
        step.tracked.params(result.to_dict())
        step.tracked.metrics({f"per_image_{k}": v for k, v in more.items() if v is not None})
        told = {"per_image": more} if more else {}
        write_json(latency, {**result.to_dict(), **told, "step": step.timing()})
        return {"latency_p50_ms": result.p50_ms, "latency_p95_ms": result.p95_ms}

    return execute(
        "profile_latency",
        work,
        run_key=run_key,
        config=settings,
        inputs={"model": model},
        outputs={"latency": latency},
    )


def _valid_images(step: Step, settings: Config, dataset: Path) -> Tensor:
    """As many as are timed, and a batch: images that differ in their networks must be real ones."""
    count = max(settings.latency.runs, BATCH)
    with step.busy("data"):
        valid = load(dataset, torch.device("cpu"), open_remote(settings.data, trusted=True)).valid
        x_BCHW, _ = next(valid.eval_batches(count))
    return x_BCHW
