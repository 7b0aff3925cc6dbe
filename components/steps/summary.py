"""The content of `result.json`: what a run found, what it cost, and with which versions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.config.schema import Config
from components.steps.state import read_json
from nascore.data.prepared import DatasetInfo
from nascore.results import Arm, SearchResult
from nascore.training.final_model import FinalModel

VERSION = 1
FIGURES = (
    "per_class",
    "balanced_accuracy",
    "macro_f1",
    "macro_auroc",
    "calibration_error",
    "confusion",
    "confused",
)
_LEARNING = ("few_shot",)  # where the network learns tasks: how long that takes


def seconds_of(
    dataset: Path, controller: Path, model: Path, search_result: Path, latency: Path
) -> dict[str, Any]:
    """What each earlier step said of its own cost, in the order of the pipeline."""
    timings = [
        read_json(dataset / "step.json"),
        read_json(controller / "step.json"),
        read_json(search_result)["step"],
        read_json(model / "step.json"),
        read_json(latency)["step"],
    ]
    return {timing["name"]: timing for timing in timings}


def summary_of(
    settings: Config,
    search: SearchResult,
    final: FinalModel,
    info: DatasetInfo,
    latency: dict[str, Any],
    seconds: dict[str, Any],
) -> dict[str, Any]:
    """The content of `result.json`; accuracies are fractions."""
    return {
        "version": VERSION,
        "method": settings.method,
        "genotype": final.genotype.to_dict(),
        "test_accuracy": final.test_accuracy,
        "valid_accuracy": final.valid_accuracy,
        "search_valid_accuracy": search.valid_accuracy,
        "objective": settings.search.objective,
        "test_score": final.test_accuracy if final.test_score is None else final.test_score,
        "valid_score": final.valid_accuracy if final.valid_score is None else final.valid_score,
        "search_valid_score": search.score,
        **_of_classes(final.figures),
        "num_children": len(search.arm.children),
        "num_failed": _num_failed(search.arm),
        "control": None if search.control is None else _control(search.control),
        "verdict": search.verdict,
        "pareto": _pareto(search),
        "num_params": final.num_params,
        "macs": final.macs,
        "latency_ms": {
            "p50": latency["p50_ms"],
            "p95": latency["p95_ms"],
            "batch_size": latency["batch_size"],
            "device": latency["device"],
            **{name: latency[name] for name in _LEARNING if name in latency},
        },
        "seconds": {name: timing["seconds"] for name, timing in seconds.items()},
        "seed": settings.seed,
        "data_sha256": info.data_sha256,
        "data_warnings": list(info.warnings),
        "data_wait_share": final.data_wait_share,
        "versions": search.versions,
    }


def _of_classes(figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of the test split; None of networks that learn their classes from a few examples."""
    return {name: None if figures is None else figures[name] for name in FIGURES}


def _num_failed(arm: Arm) -> int:
    return sum(child.status == "failed" for child in arm.children)


def _pareto(search: SearchResult) -> dict[str, Any]:
    """The children that none beats in accuracy and cost, the cheapest first."""
    by_number = {child.number: child for child in search.arm.children}
    front = []
    for number in search.pareto:
        scores = by_number[number].scores
        assert scores is not None
        front.append(
            {
                "number": number,
                "valid_accuracy": scores.valid_accuracy,
                "valid_score": scores.valid,
                "cost": scores.num_params if scores.cost is None else scores.cost,
                "genotype": by_number[number].genotype.to_dict(),
            }
        )
    return {"cost_metric": search.cost_metric, "front": front}


def _control(arm: Arm) -> dict[str, Any]:
    best = arm.best
    return {
        "method": arm.method,
        "num_children": len(arm.children),
        "num_failed": _num_failed(arm),
        "valid_accuracy": None if best is None else best.valid_accuracy,
        "valid_score": None if best is None else best.score,
        "genotype": None if best is None else best.genotype.to_dict(),
        "seconds": arm.seconds,
    }
