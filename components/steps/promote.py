"""Step 6: register the model, decide whether it becomes champion, write result and report."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from components.config.schema import shown
from components.export.manifest import GENOTYPE, LATENCY, MODEL_CARD, REPORT, RESULT, WEIGHTS
from components.export.programs import write_programs
from components.export.weights import write_model
from components.steps.compiled import store_warnings_of
from components.steps.export import export_folder, export_run
from components.steps.int8 import offer
from components.steps.model_card import description, model_card
from components.steps.overview import comparable_numbers, overview_page
from components.steps.reference_section import with_registered
from components.steps.registration import (
    Promotion,
    call_store,
    describe_version,
    register_and_decide,
)
from components.steps.run_results import Inputs, RunResults, load_results, with_shipped
from components.steps.runtime import Step, execute, read_config
from components.steps.state import read_json, write_json
from components.steps.summary import shipped_of, summary_of
from components.steps.tracked_result import track_result
from components.tracking import lineage
from components.tracking.links import Links, links_of
from components.tracking.reading import experiment_of
from nascore.data.batches import Split
from nascore.report import classes
from nascore.report.page import Report, render
from nascore.report.sections import places_of
from nascore.spaces import drawing
from nascore.training.network_kinds import graph_of

Timings = Mapping[str, Mapping[str, Any]]


def run(
    *, run_key: str, inputs: Inputs, result: Path, report: Path, overview: Path
) -> dict[str, float]:
    """Register and promote the model, and write what the user and the next run read.

    Args:
        run_key: key of the pipeline's MLflow run.
        inputs: artifacts of the earlier steps.
        result: JSON file to write.
        report: HTML file to write.
        overview: Markdown file to write.

    Returns:
        Numbers by which runs are compared.
    """

    def work(step: Step) -> dict[str, float]:
        results = load_results(step, inputs)
        registered = with_shipped(results, inputs)
        tags = read_json(inputs.dataset / lineage.FILE) | lineage.of_code()
        tags |= {lineage.METHOD: results.search.method}  # of a reused architecture: that of its run
        tags |= lineage.of_genotype(registered.final.genotype)
        tags |= {lineage.NETWORK: registered.shipped}
        int8, int8_files = offer(step, registered)
        promotion = register_and_decide(step, registered, tags)
        timings = {**results.timings, "promote": step.timing()}
        summary = summary_of(results, promotion, timings)
        if registered is not results:
            shipped = summary_of(registered, promotion, timings)
            summary["shipped"] = shipped_of(shipped, registered.shipped)
        summary["int8"] = int8
        summary["exported_to"] = export_folder(step.config, run_key)
        summary["store_warnings"] = store_warnings_of(inputs.dataset)
        links = find_links(step, promotion)
        summary["links"] = asdict(links)
        write_json(result, summary)
        write_report(step, results, summary, timings, report)
        overview.parent.mkdir(parents=True, exist_ok=True)
        own = with_registered(summary)
        page = overview_page(registered, promotion, own, links)
        overview.write_text(page, encoding="utf-8")
        card = write_card(step, registered, promotion, own)
        files = {LATENCY: inputs.registered_latency, RESULT: result, REPORT: report}
        files |= {MODEL_CARD: card, **int8_files}
        export(step, registered, promotion, files)
        track_result(step, registered, promotion, own, files)
        return comparable_numbers(registered)

    return execute(
        "promote",
        work,
        run_key=run_key,
        config=read_config(inputs.dataset),
        inputs={
            "dataset": inputs.dataset,
            "search_result": inputs.search_result,
            "model": inputs.model,
            "latency": inputs.latency,
            **({} if inputs.references is None else {"references": inputs.references}),
        },
        outputs={"overview": overview, "report": report, "result": result},
    )


def write_report(
    step: Step, results: RunResults, summary: Mapping[str, Any], timings: Timings, report: Path
) -> None:
    """Write the page of the run.

    Args:
        step: the running step.
        results: of the earlier steps.
        summary: content of `result.json`.
        timings: time of each step by name.
        report: HTML file to write.
    """
    space, final, splits = results.space, results.final, results.splits
    with step.part("report"):
        page = render(
            Report(
                result=summary,
                search=results.search,
                describe=space.describe,
                architecture_svg=drawing.to_svg(graph_of(final, space)),
                config=shown(results.config),
                dataset=splits.info.to_dict(),
                latency=results.latency,
                details=final.details,
                images=_images(splits.valid, places_of(final.details)),
                test_images=_images(splits.test, classes.places(summary)),
                step_seconds={name: timing["seconds"] for name, timing in timings.items()},
                step_busy={name: timing["busy"] for name, timing in timings.items()},
                command="nas run config.yaml   # the configuration below, saved under this name",
            )
        )
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(page, encoding="utf-8")


def _images(split: Split, places: list[int]) -> dict[int, NDArray[Any]]:
    """Return the pixels (C, H, W) of images by their places in a split."""
    if not places:
        return {}
    return dict(zip(places, split.pixels_at(places).cpu().numpy(), strict=True))


def find_links(step: Step, promotion: Promotion) -> Links:
    """Return the addresses of the MLflow run and of the model version."""
    return links_of(
        step.config.tracking.uri,
        run_id=promotion.run_id,
        experiment_id=experiment_of(step.tracker.spool, step.run_key),
        model=promotion.registered.name,
        version=promotion.registered.version,
    )


def write_card(
    step: Step, results: RunResults, promotion: Promotion, summary: Mapping[str, Any]
) -> Path:
    """Write the model card, set it as the description of the model version, and approve or reject.

    Returns:
        Path of the card, in the state folder.
    """
    card = model_card(summary, results.latency)
    describe_version(step, promotion, description(card, summary))
    path = step.state / MODEL_CARD
    path.write_text(card, encoding="utf-8")
    return path


def export(
    step: Step, results: RunResults, promotion: Promotion, files: Mapping[str, Path]
) -> None:
    """Copy the files of the run to `promote.export_to`, if it is set.

    Args:
        step: the running step.
        results: of the earlier steps; the network is exported as weights and as programs.
        promotion: registered version and decision.
        files: further files, by the names that they get.
    """
    if step.config.promote.export_to is None:
        return
    info = results.splits.info
    write_model(step.state, results.final, info, step.config)
    every = {name: step.state / name for name in (WEIGHTS, GENOTYPE)} | dict(files)
    every |= write_programs(step.state, results.final, info)
    version, alias = promotion.registered.version, promotion.decision.alias
    call_store(step, lambda: export_run(step, every, version=version, alias=alias))
