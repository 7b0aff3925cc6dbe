"""Quantises the registered network of a run, if `promote.int8_max_drop` is set."""

from pathlib import Path
from typing import Any

from components.export.manifest import INT8
from components.steps.run_results import RunResults
from components.steps.runtime import Step
from nascore.quantization.int8 import make_int8
from nascore.seeding import Seeds


def offer(step: Step, results: RunResults) -> tuple[dict[str, Any] | None, dict[str, Path]]:
    """Quantise the registered network, if the configuration asks for it.

    Returns:
        Key `int8` of `result.json`, and the file of an offered network by its name.
    """
    max_drop = results.config.promote.int8_max_drop
    if max_drop is None:
        return None, {}
    path = step.state / INT8
    with step.part("int8"):
        result = make_int8(
            results.final,
            results.splits,
            path=path,
            max_drop=max_drop,
            latency=results.config.latency,
            generator=Seeds(results.config.seed).torch("promote", "calibration"),
        )
    return result.to_dict(), {INT8: path} if result.offered else {}
