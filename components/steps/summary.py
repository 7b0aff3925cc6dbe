"""The content of `result.json`: what a run found, what it cost, and with which versions."""

from collections.abc import Mapping
from typing import Any

from components.steps.registration import Promotion
from components.steps.run_results import RunResults
from nascore.redaction import redact
from nascore.reference.plan import CONTROL, FOUND
from nascore.results import Arm, SearchResult
from nascore.spaces.base import StandardSpace
from nascore.spaces.text_drawing import to_text
from nascore.training.network_kinds import describe, graph_of

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
_OF_NETWORK = (
    *("genotype", "test_accuracy", "valid_accuracy", "test_score", "valid_score"),
    *(*FIGURES, "num_params", "macs", "latency_ms", "architecture", "training"),
    "data_wait_share",
)
"""Keys about the network, and not about the search, whose finalists are the ensemble."""
_ADAPTATION = ("few_shot",)  # times of few-shot networks


def summary_of(
    results: RunResults, promotion: Promotion, timings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of `result.json`; accuracies are fractions.

    Args:
        results: of the earlier steps.
        promotion: registered version and decision.
        timings: time of each step, this one included.
    """
    config, search, final = results.config, results.search, results.final
    info = results.splits.info
    return {
        "version": VERSION,
        "method": search.method,
        "genotype": final.genotype.to_dict(),
        **_scores(results),
        **_class_figures(final.figures),
        "num_children": num_trained(search.arm),
        "num_failed": _num_failed(search.arm),
        "control": None if search.control is None else _control(search.control, results),
        "verdict": search.verdict,
        "pareto": _pareto(search),
        "num_params": final.num_params,
        "macs": final.macs,
        "latency_ms": _latency(results),
        "architecture": _architecture(results),
        "search": {
            "method": search.method,
            "seconds": search.arm.seconds,
            "reused_version": results.reused_version,
        },
        "standard": _standard(results),
        **_references(results),
        "shipped": None,
        "training": _training(results),
        "ensemble": final.ensemble,
        "data": _data(results),
        "seconds": {name: timing["seconds"] for name, timing in timings.items()},
        "seed": config.seed,
        "data_sha256": info.data_sha256,
        "data_warnings": list(info.warnings),
        "data_wait_share": final.data_wait_share,
        "versions": search.versions,
        "model_uri": promotion.registered.uri,
        "tracking_uri": redact(config.tracking.uri),
        "tracking_experiment": config.tracking.experiment,
        "tracking_run_id": promotion.run_id,
        "promotion": promotion.decision.to_dict(),
    }


def shipped_of(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the key `shipped` of `result.json`.

    Args:
        summary: `summary_of` the registered network.
        name: of that network.
    """
    return {"name": name, **{key: summary[key] for key in _OF_NETWORK}}


def _architecture(results: RunResults) -> dict[str, Any]:
    """Return the architecture as one line and as a drawing in lines of text."""
    space, final = results.space, results.final
    is_searched = final.genotype.space == space.identifier
    return {
        "text": describe(final, space),
        "drawing": to_text(graph_of(final, space)),
        "space": space.identifier if is_searched else None,
    }


def _standard(results: RunResults) -> dict[str, Any] | None:
    """Return the scores in the search of the standard network of the space, if it has one."""
    if not isinstance(results.space, StandardSpace):
        return None
    genotype = results.space.standard
    found = [child for child in results.search.arm.children if child.genotype == genotype]
    if not found or found[0].valid_accuracy is None:
        return None
    return {
        "valid_accuracy": found[0].valid_accuracy,
        "valid_score": found[0].score,
        "is_chosen": genotype == results.search.genotype,
    }


def _references(results: RunResults) -> dict[str, Any]:
    """Return the comparison with standard networks, and which network to ship."""
    found = results.references
    if found is None:
        why = "A retraining compares with the champion, and with no standard network."
        found = {"recommendation": {"ship": results.shipped, "why": why}}
    return {
        "found": found.get("found"),
        "references": found.get("references", []),
        "references_left_out": found.get("left_out", []),
        "recommendation": found["recommendation"],
    }


def _training(results: RunResults) -> dict[str, Any]:
    config, final = results.config, results.final
    settings = config.train.model_dump(mode="json") | config.training.model_dump(mode="json")
    if results.shipped not in (FOUND, CONTROL):  # trained for a time
        settings |= {"epochs": None, "max_steps": None}
    return {
        "num_steps": final.num_steps,
        "seconds": final.duration_s,
        "train_accuracy": final.train_accuracy,
        "weights": final.transfer.get("weights"),
        "teacher": final.transfer.get("teacher"),
        "settings": settings,
    }


def _data(results: RunResults) -> dict[str, Any]:
    """Return the description of the data, and how many classes the model answers with."""
    info = results.splits.info.to_dict()
    del info["warnings"]  # `data_warnings`
    info |= {name: redact(info[name]) for name in ("source", "root") if info[name]}
    return {**info, "num_outputs": results.final.shape.num_classes}


def _scores(results: RunResults) -> dict[str, Any]:
    search, final = results.search, results.final
    return {
        "test_accuracy": final.test_accuracy,
        "valid_accuracy": final.valid_accuracy,
        "search_valid_accuracy": search.valid_accuracy,
        "objective": results.config.search.objective,
        "test_score": final.test_accuracy if final.test_score is None else final.test_score,
        "valid_score": final.valid_accuracy if final.valid_score is None else final.valid_score,
        "search_valid_score": search.score,
    }


def _latency(results: RunResults) -> dict[str, Any]:
    measured = results.measured
    return {
        "p50": measured.p50_ms,
        "p95": measured.p95_ms,
        "batch_size": measured.batch_size,
        "device": measured.device,
        **{name: results.latency[name] for name in _ADAPTATION if name in results.latency},
    }


def _class_figures(figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the figures of the test split; each is None for few-shot networks."""
    return {name: None if figures is None else figures[name] for name in FIGURES}


def num_trained(arm: Arm) -> int:
    """Return the number of children but those that were not trained because of their cost."""
    return sum(not child.is_rejected for child in arm.children)


def _num_failed(arm: Arm) -> int:
    return sum(child.status == "failed" for child in arm.children)


def _pareto(search: SearchResult) -> dict[str, Any]:
    """Return the Pareto front of accuracy and cost, the cheapest child first."""
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
                "cost": scores.compared_cost,
                "genotype": by_number[number].genotype.to_dict(),
            }
        )
    return {"cost_metric": search.cost_metric, "front": front}


def _control(arm: Arm, results: RunResults) -> dict[str, Any]:
    """Return the control; `final` has its best architecture trained as the found one, if it was."""
    best = arm.best
    return {
        "method": arm.method,
        "num_children": num_trained(arm),
        "num_failed": _num_failed(arm),
        "valid_accuracy": None if best is None else best.valid_accuracy,
        "valid_score": None if best is None else best.score,
        "genotype": None if best is None else best.genotype.to_dict(),
        "seconds": arm.seconds,
        "final": (results.references or {}).get("control"),
    }
