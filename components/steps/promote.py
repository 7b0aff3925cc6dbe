"""Step 6: register the model, decide whether it is champion, and sum up the run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components import lineage, registry
from components.config import Config
from components.deliverables import GENOTYPE, LATENCY, REPORT, RESULT, WEIGHTS
from components.promotion import Candidate, Decision, correct, promote
from components.registry import Registered
from components.steps.hand_over import hand_over, place_of
from components.steps.remote import open_remote
from components.steps.running import Step, execute, read_config
from components.steps.state import read_json, write_json
from components.tracking import wait_for_run
from components.tracking.patience import patiently
from components.weights import write_model
from nascore import draw
from nascore.data.batches import Splits, load
from nascore.data.profile import profile
from nascore.data.store import DatasetInfo
from nascore.final import FinalModel, Predictor
from nascore.redaction import redact
from nascore.report.page import Report, render
from nascore.results import Arm, SearchResult
from nascore.seeding import Seeds
from nascore.spaces import SearchSpace, make_space

VERSION = 1
PROFILE = "profile.json"
SEARCH_RESULT = "search_result.json"
_BATCH_SIZE = 256
_EXAMPLE_IMAGES = 2  # one image would be exported as a fixed batch size
_STORE_TIMEOUT_S = 120.0


class TrackingAway(Exception):
    """The store did not answer in time: a model cannot be registered without it."""


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
        with _telling_away(settings):
            registered, decision = patiently(
                lambda: _register(settings, final, splits, run_id, profiled["p50_ms"], tags),
                timeout_s=_STORE_TIMEOUT_S,
                tell=lambda text: step.progress("note", text=text),
            )
        seconds = _seconds(dataset, controller, model, search_result, latency)
        seconds["promote"] = step.timing()
        summary = _summary(settings, search, final, splits.info, profiled, seconds)
        summary |= {"model_uri": registered.uri, "tracking_run_id": run_id}
        summary["promotion"] = decision.to_dict()
        summary["exported_to"] = place_of(settings, run_key)
        write_json(result, summary)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(
            _page(settings, summary, search, final, space, splits.info, profiled, seconds),
            encoding="utf-8",
        )
        if settings.promote.export_to is not None:
            write_model(step.state, final, splits.info, settings)
            hand_over(
                step,
                {
                    WEIGHTS: step.state / WEIGHTS,
                    GENOTYPE: step.state / GENOTYPE,
                    LATENCY: latency,
                    RESULT: result,
                    REPORT: report,
                },
                version=registered.version,
                alias=decision.alias,
            )
        metrics = {
            "test_accuracy": final.test_accuracy,
            "valid_accuracy": final.valid_accuracy,
            "latency_p50_ms": summary["latency_ms"]["p50"],
            "num_params": float(final.num_params),
            "macs": float(final.macs),
        }
        tags |= {lineage.MODEL_URI: registered.uri}
        tags |= {"nas.alias": decision.alias, "nas.decision": decision.reason}
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


def _wait_for_run(step: Step, settings: Config) -> str:
    """The id that the follower's store gave to the pipeline's run."""
    with _telling_away(settings):
        return wait_for_run(step.tracker.spool, step.run_key, timeout_s=_STORE_TIMEOUT_S)


@contextlib.contextmanager
def _telling_away(settings: Config) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TrackingAway(
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
    def images() -> Iterator[Tensor]:
        return (x_BCHW.float() for x_BCHW in splits.test.pixel_batches(_BATCH_SIZE))

    uri, name = settings.tracking.uri, settings.promote.model_name
    network = Predictor(final.network, splits.info).eval()
    registered = registry.register(
        network,
        next(images())[:_EXAMPLE_IMAGES].numpy(),
        uri=uri,
        run_id=run_id,
        model_name=name,
        tags={**tags, "nas.test_accuracy": f"{final.test_accuracy:.6f}"},
    )
    labels = splits.test.labels
    candidate = Candidate(
        registered, correct(network, images(), labels), final.num_params, latency_ms
    )
    decision = promote(
        candidate,
        uri=uri,
        images=images,
        labels=labels,
        config=settings.promote,
        rng=Seeds(settings.seed).numpy("promote"),
    )
    return registered, decision


def _seconds(
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


def _summary(
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
        },
        "seconds": {name: timing["seconds"] for name, timing in seconds.items()},
        "seed": settings.seed,
        "data_sha256": info.data_sha256,
        "versions": search.versions,
    }


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
        "genotype": None if best is None else best.genotype.to_dict(),
        "seconds": arm.seconds,
    }


def _page(
    settings: Config,
    summary: dict[str, Any],
    search: SearchResult,
    final: FinalModel,
    space: SearchSpace,
    info: DatasetInfo,
    latency: dict[str, Any],
    seconds: dict[str, Any],
) -> str:
    shown = settings.model_dump(mode="json")
    shown["tracking"]["uri"] = redact(settings.tracking.uri)
    shown["search"]["storage"] = redact(settings.search.storage or "") or None
    return render(
        Report(
            result=summary,
            search=search,
            describe=space.describe,
            architecture_svg=draw.to_svg(space.graph(final.genotype, final.shape)),
            config=shown,
            dataset=info.to_dict(),
            latency=latency,
            step_seconds={name: timing["seconds"] for name, timing in seconds.items()},
            step_busy={name: timing["busy"] for name, timing in seconds.items()},
            command="nas run config.yaml   # the configuration below, saved under this name",
        )
    )


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
