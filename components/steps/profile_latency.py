"""Step 5: measure the latency of the trained network, by a stated protocol."""

from pathlib import Path

from components.steps.running import Step, execute, read_config
from components.steps.state import write_json
from nascore.final import FinalModel
from nascore.latency import measure
from nascore.spaces import make_space


def run(
    *, run_key: str, config: Path, dataset: Path, model: Path, latency: Path
) -> dict[str, float]:
    """Writes the measurement as JSON (`nascore.latency.LatencyResult`)."""
    settings = read_config(config)

    def work(step: Step) -> dict[str, float]:
        final = FinalModel.load(model, make_space(settings.search.space))
        with step.busy("profiling"):
            result = measure(final.network, final.shape, settings.latency)
        step.tracked.params(result.to_dict())
        write_json(latency, {**result.to_dict(), "step": step.timing()})
        return {"latency_p50_ms": result.p50_ms, "latency_p95_ms": result.p95_ms}

    return execute(
        "profile_latency",
        work,
        run_key=run_key,
        config=settings,
        inputs={"model": model},
        outputs={"latency": latency},
    )
