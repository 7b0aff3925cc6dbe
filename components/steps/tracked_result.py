"""Logs the result of a run to the pipeline's MLflow run: metrics, figures, files, description."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.export.manifest import INT8, MODEL_CARD, REPORT, RESULT
from components.steps.class_figures import mean_metrics, track_classes
from components.steps.int8_section import FOLDER as INT8_FOLDER
from components.steps.int8_section import metrics as int8_metrics
from components.steps.registration import Promotion
from components.steps.run_notes import result_note
from components.steps.run_results import (
    REFERENCES,
    RunResults,
    ensemble_metrics,
    reference_metrics,
)
from components.steps.runtime import Step
from components.steps.state import write_json
from components.tracking import lineage
from components.tracking.datasets import inputs_of
from components.tracking.reading import experiment_of
from components.tracking.run_description import NOTE
from nascore.config import OBJECTIVES
from nascore.data.drift import profile
from nascore.figures import run_charts
from nascore.figures.chart import Chart
from nascore.results import SearchResult

PROFILE = "profile.json"
SEARCH_RESULT = "search_result.json"
_FOLDERS = {REPORT: "report", RESULT: "result", MODEL_CARD: "", INT8: INT8_FOLDER}


def track_result(
    step: Step,
    results: RunResults,
    promotion: Promotion,
    summary: Mapping[str, Any],
    files: Mapping[str, Path],
) -> None:
    """Log the result of a run to the pipeline's run, and end it.

    A later retraining reads the search result and the profile of the data from the run of the
    champion.

    Args:
        step: the running step.
        results: of the earlier steps.
        promotion: registered version and decision.
        summary: content of `result.json`.
        files: by name, those of which are logged that have a folder in the run.
    """
    track_classes(step, summary)
    _track_references(step, results)
    _track_metrics(step, results, promotion)
    if summary["ensemble"] is not None:
        step.parent.metrics(ensemble_metrics(summary["ensemble"]))
    step.parent.metrics(int8_metrics(summary))
    for name, path in files.items():
        if name in _FOLDERS:
            step.parent.artifact(path, _FOLDERS[name], name=name)
    for folder, name, content in (
        ("result", SEARCH_RESULT, results.search.to_dict()),
        ("data", PROFILE, profile(results.splits).to_dict()),
    ):
        write_json(step.state / name, content)
        step.parent.artifact(step.state / name, folder)
    for name, chart in _charts(results.search, results.space.describe):
        path = step.state / f"{name}.png"
        chart.save(path)
        step.parent.artifact(path, "figures")
    _end_run(step, results, promotion, summary)


def scalars(results: RunResults) -> dict[str, float]:
    """Return the metrics of the promoted model."""
    final = results.final
    return {
        "test_accuracy": final.test_accuracy,
        "valid_accuracy": final.valid_accuracy,
        "latency_p50_ms": results.measured.p50_ms,
        "num_params": float(final.num_params),
        "macs": float(final.macs),
        **mean_metrics(final),
    }


def _track_references(step: Step, results: RunResults) -> None:
    """Log the comparison with standard networks: metrics, and the table `references.json`."""
    found = results.references
    if found is None or found["found"] is None:
        return
    step.parent.metrics(reference_metrics(found))
    rows = [found["found"], found["control"], *found["references"]]
    step.parent.table([row for row in rows if row is not None], REFERENCES)


def _track_metrics(step: Step, results: RunResults, promotion: Promotion) -> None:
    """Log the metrics of the model, linked to it and to the split on which they were measured."""
    inputs = {one["context"]: one for one in inputs_of(results.splits.info)}
    values, uri = scalars(results), promotion.registered.uri
    for prefix, context in (("test_", "test"), ("valid_", "validation")):
        measured = {name: value for name, value in values.items() if name.startswith(prefix)}
        step.parent.model_metrics(measured, model=uri, dataset=inputs[context])
        values = {name: value for name, value in values.items() if name not in measured}
    step.parent.model_metrics(values, model=uri)


def _charts(search: SearchResult, describe: Any) -> Iterator[tuple[str, Chart]]:
    """Yield the charts of a search by the names of their files."""
    figure = OBJECTIVES[search.objective]
    if search.arm.children:

        def text_of(child: Any) -> str:
            return str(describe(child.genotype))

        yield (
            "search_curve",
            run_charts.search_curve(search.arm, search.control, text_of, figure=figure),
        )
    chart = run_charts.cost_front(search, figure=figure)
    if chart is not None:
        yield "cost_accuracy", chart


def _end_run(
    step: Step, results: RunResults, promotion: Promotion, summary: Mapping[str, Any]
) -> None:
    """Describe the pipeline's run, tag it with lineage and decision, and end it."""
    experiment_id = experiment_of(step.tracker.spool, step.run_key)
    step.parent.tags(
        {
            **promotion.tags,
            lineage.MODEL_URI: promotion.registered.uri,
            "nas.alias": promotion.decision.alias,
            "nas.decision": promotion.decision.reason,
            NOTE: result_note(results, promotion, summary, experiment_id=experiment_id),
        }
    )
    step.parent.end()
