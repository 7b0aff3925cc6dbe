"""Descriptions of MLflow runs: the Markdown that the UI shows above a run.

The pipeline's run gets a short one when the data is prepared, and the whole one with the result.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from components.config.schema import Config
from components.progress import steps_s
from components.steps.registration import Promotion
from components.steps.run_results import RunResults
from components.tracking.run_description import heading, rows_of_data, table
from nascore.figures import formatting
from nascore.report.ensemble import statement


def result_note(
    results: RunResults,
    promotion: Promotion,
    summary: Mapping[str, Any],
    *,
    experiment_id: str | None,
) -> str:
    """Return the description of a pipeline's run that has a result.

    Args:
        results: of the earlier steps.
        promotion: registered version and decision.
        summary: content of `result.json`.
        experiment_id: MLflow experiment of the run; None leaves out the links to its files.
    """
    config, info = results.config, results.splits.info
    parts = [heading(config, results.reused), _outcome(results, promotion, summary)]
    if results.search.verdict is not None:
        parts.append(str(results.search.verdict["statement"]))
    parts.append(str(summary["recommendation"]["why"]))
    if summary["ensemble"] is not None:
        parts.append(statement(summary["ensemble"]))
    rows = {
        "searched": _searched(config, summary),
        **rows_of_data(info),
        "size": f"{formatting.count(summary['num_params'])} parameters, "
        f"{formatting.short_count(summary['macs'])} MACs",
        "latency": f"p50 {formatting.milliseconds(results.measured.p50_ms)} (batch "
        f"{results.measured.batch_size}, {results.measured.device})",
        "time of the steps": formatting.duration(steps_s(summary["seconds"])),
        "model": f"{model_link(promotion.registered.uri)} ({promotion.decision.alias}: "
        f"{promotion.decision.reason})",
    }
    if experiment_id is not None:
        files = ("report/report.html", "result/result.json", "MODEL_CARD.md", "figures")
        rows["files"] = ", ".join(_file_link(experiment_id, promotion.run_id, one) for one in files)
    return "\n\n".join([*parts, table(rows)])


def model_link(uri: str) -> str:
    """Return a link to the page of a model version in MLflow's UI.

    Args:
        uri: `models:/NAME/VERSION`.
    """
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    return f"[{name} version {version}](#/models/{quote(name, safe='')}/versions/{version})"


def _file_link(experiment_id: str, run_id: str, path: str) -> str:
    shown = path.rpartition("/")[2]
    return f"[{shown}](#/experiments/{experiment_id}/runs/{run_id}/artifacts/{quote(path)})"


def _outcome(results: RunResults, promotion: Promotion, summary: Mapping[str, Any]) -> str:
    info, accuracy = results.splits.info, summary["test_accuracy"]
    text = f"**Test accuracy {formatting.percent(accuracy)}**"
    if info.class_splits is None:
        low, high = formatting.wilson_interval(accuracy, info.num_test)
        text += (
            f" (95% interval {formatting.percent(low, 1)} to {formatting.percent(high, 1)}, "
            f"{formatting.count(info.num_test)} images)"
        )
    registered = promotion.registered
    return f"{text}; {registered.name} version {registered.version} is {promotion.decision.alias}."


def _searched(config: Config, summary: Mapping[str, Any]) -> str:
    text = f"{summary['num_children']} children in {config.search.space.name}"
    failed = summary["num_failed"]
    return f"{text}, {failed} of them failed" if failed else text
