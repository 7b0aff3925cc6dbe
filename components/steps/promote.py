"""Step 6: register the model, decide whether it is champion, and sum up the run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from components.config.schema import Config, shown
from components.export.manifest import GENOTYPE, LATENCY, REPORT, RESULT, WEIGHTS
from components.export.programs import write_programs
from components.export.weights import write_model
from components.registry import model_registry
from components.registry.model_registry import Registered
from components.registry.promotion import Candidate, Decision, promote
from components.steps.class_figures import mean_metrics, track_classes
from components.steps.evaluation import form_and_exam
from components.steps.export import export_run, place_of
from components.steps.runtime import Step, execute, read_config
from components.steps.s3_source import open_remote
from components.steps.state import read_json, write_json
from components.steps.summary import seconds_of, summary_of
from components.tracking import lineage, wait_for_run
from components.tracking.retry import call_with_retries
from nascore.data.batches import Split, Splits, load
from nascore.data.drift import profile
from nascore.data.prepared import DatasetInfo
from nascore.errors import ServiceUnavailable
from nascore.redaction import redact
from nascore.report import classes
from nascore.report.page import Report, render
from nascore.report.sections import places_of
from nascore.results import SearchResult
from nascore.seeding import Seeds
from nascore.spaces import drawing
from nascore.spaces.base import SearchSpace, make_space
from nascore.training.final_model import DeployedModel, FinalModel

PROFILE = "profile.json"
SEARCH_RESULT = "search_result.json"
_STORE_TIMEOUT_S = 120.0


def run(
    *,
    run_key: str,
    config: Path,
    dataset: Path,
    controller: Path,
    search_result: Path,
    model: Path,
    latency: Path,
    result: Path,
    report: Path,
) -> dict[str, float]:
    """Writes `result` (JSON) and `report` (HTML); the registry holds the model afterwards."""
    settings = read_config(config)

    def work(step: Step) -> dict[str, float]:
        space = make_space(settings.search.space)
        final = FinalModel.load(model, space)
        search = SearchResult.from_dict(read_json(search_result))
        with step.busy("data"):
            remote = open_remote(settings.data, trusted=True)
            splits = load(dataset, torch.device("cpu"), remote)
        run_id = _wait_for_run(step, settings)
        profiled = read_json(latency)
        tags = read_json(dataset / lineage.FILE) | lineage.of_code()
        tags |= lineage.of_genotype(final.genotype)
        with step.part("registration"), _telling_away(settings):
            registered, decision = call_with_retries(
                lambda: _register(settings, final, splits, run_id, profiled["p50_ms"], tags),
                timeout_s=_STORE_TIMEOUT_S,
                tell=lambda text: step.progress("note", text=text),
            )
        seconds = seconds_of(dataset, controller, model, search_result, latency)
        seconds["promote"] = step.timing()
        summary = summary_of(settings, search, final, splits.info, profiled, seconds)
        summary |= {"model_uri": registered.uri, "tracking_run_id": run_id}
        summary["promotion"] = decision.to_dict()
        summary["exported_to"] = place_of(settings, run_key)
        write_json(result, summary)
        with step.part("report"):
            page = _page(settings, summary, search, final, space, splits, profiled, seconds)
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(page, encoding="utf-8")
        files = {LATENCY: latency, RESULT: result, REPORT: report}
        _hand_over(step, final, splits.info, files, version=registered.version, decision=decision)
        metrics = {
            "test_accuracy": final.test_accuracy,
            "valid_accuracy": final.valid_accuracy,
            "latency_p50_ms": summary["latency_ms"]["p50"],
            "num_params": float(final.num_params),
            "macs": float(final.macs),
            **mean_metrics(final),
        }
        tags |= {lineage.MODEL_URI: registered.uri}
        tags |= {"nas.alias": decision.alias, "nas.decision": decision.reason}
        track_classes(step, summary)
        _track(step, metrics, tags, result, report)
        _keep_for_retraining(step, search, splits)
        return metrics

    return execute(
        "promote",
        work,
        run_key=run_key,
        config=settings,
        inputs={
            "dataset": dataset,
            "search_result": search_result,
            "model": model,
            "latency": latency,
        },
        outputs={"result": result, "report": report},
    )


def _hand_over(
    step: Step,
    final: FinalModel,
    info: DatasetInfo,
    files: dict[str, Path],
    *,
    version: str,
    decision: Decision,
) -> None:
    if step.config.promote.export_to is None:
        return
    write_model(step.state, final, info, step.config)
    whole = {name: step.state / name for name in (WEIGHTS, GENOTYPE)} | files
    whole |= write_programs(step.state, final, info)
    with _telling_away(step.config):
        call_with_retries(
            lambda: export_run(step, whole, version=version, alias=decision.alias),
            timeout_s=_STORE_TIMEOUT_S,
            tell=lambda text: step.progress("note", text=text),
        )


def _wait_for_run(step: Step, settings: Config) -> str:
    """The id that the follower's store gave to the pipeline's run."""
    with _telling_away(settings):
        return wait_for_run(step.tracker.spool, step.run_key, timeout_s=_STORE_TIMEOUT_S)


@contextlib.contextmanager
def _telling_away(settings: Config) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ServiceUnavailable(
            "tracking server",
            f"{error} at {redact(settings.tracking.uri)}; the trained model is kept: bring the "
            "store back and run the step again"
        ) from error


def _register(
    settings: Config,
    final: FinalModel,
    splits: Splits,
    run_id: str,
    latency_ms: float,
    tags: dict[str, str],
) -> tuple[Registered, Decision]:
    uri, name = settings.tracking.uri, settings.promote.model_name
    network = DeployedModel(final.network, splits.info).eval()
    form, exam = form_and_exam(network, splits, settings)
    registered = model_registry.register(
        network,
        form,
        uri=uri,
        run_id=run_id,
        model_name=name,
        tags={**tags, "nas.test_accuracy": f"{final.test_accuracy:.6f}"},
    )
    candidate = Candidate(registered, exam.scores(network), final.num_params, latency_ms)
    decision = promote(
        candidate,
        uri=uri,
        exam=exam,
        config=settings.promote,
        rng=Seeds(settings.seed).numpy("promote"),
    )
    return registered, decision


def _page(
    settings: Config,
    summary: dict[str, Any],
    search: SearchResult,
    final: FinalModel,
    space: SearchSpace,
    splits: Splits,
    latency: dict[str, Any],
    seconds: dict[str, Any],
) -> str:
    return render(
        Report(
            result=summary,
            search=search,
            describe=space.describe,
            architecture_svg=drawing.to_svg(space.graph(final.genotype, final.shape)),
            config=shown(settings),
            dataset=splits.info.to_dict(),
            latency=latency,
            details=final.details,
            images=_images(splits.valid, places_of(final.details)),
            test_images=_images(splits.test, classes.places(summary)),
            step_seconds={name: timing["seconds"] for name, timing in seconds.items()},
            step_busy={name: timing["busy"] for name, timing in seconds.items()},
            command="nas run config.yaml   # the configuration below, saved under this name",
        )
    )


def _images(split: Split, wanted: list[int]) -> dict[int, NDArray[Any]]:
    """Those that the report shows, by their places in a split."""
    if not wanted:
        return {}
    return dict(zip(wanted, split.pixels_at(wanted).cpu().numpy(), strict=True))


def _keep_for_retraining(step: Step, search: SearchResult, splits: Splits) -> None:
    """What a later retraining asks of the champion's run."""
    for folder, name, content in (
        ("result", SEARCH_RESULT, search.to_dict()),
        ("data", PROFILE, profile(splits).to_dict()),
    ):
        path = step.state / name
        write_json(path, content)
        step.parent.artifact(path, folder)


def _track(
    step: Step,
    metrics: dict[str, float],
    tags: dict[str, str],
    result: Path,
    report: Path,
) -> None:
    step.parent.metrics(metrics)
    step.parent.artifact(result, "result")
    step.parent.artifact(report, "report")
    step.parent.tags(tags)
    step.parent.end()
