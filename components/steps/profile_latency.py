"""Step 5: measure the latency of the trained network, by a stated protocol."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.steps.context_builder import examples_of, load_splits
from components.steps.runtime import Step, execute, read_config
from components.steps.state import write_json
from nascore.spaces.base import make_space
from nascore.training.final_model import FinalModel
from nascore.training.network_kinds import Examples, kind_of


def run(*, run_key: str, dataset: Path, model: Path, latency: Path) -> dict[str, float]:
    """Write the measurement as JSON (`nascore.latency.benchmark.LatencyResult`).

    Some kinds of networks add a key of their own (`nascore.training.network_kinds`).
    """
    config = read_config(dataset)

    def work(step: Step) -> dict[str, float]:
        final = FinalModel.load(model, make_space(config.search.space))

        def examples() -> Examples:
            return examples_of(load_splits(step, dataset), config)

        with step.busy("profiling"):
            result, more = kind_of(final.network).profile(final, config.latency, examples)
        step.tracked.params(result.to_dict())
        step.tracked.metrics(dict(_numbers(more)))
        write_json(latency, {**result.to_dict(), **more, "step": step.timing()})
        return {"latency_p50_ms": result.p50_ms, "latency_p95_ms": result.p95_ms}

    return execute(
        "profile_latency",
        work,
        run_key=run_key,
        config=config,
        inputs={"model": model},
        outputs={"latency": latency},
    )


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield all numbers of nested mappings with their path, joined by `_`."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}_")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)
