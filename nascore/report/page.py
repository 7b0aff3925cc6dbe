"""The page of a run, made from the run's own artifacts.

Everything but the result and the search may be missing, which the page then states. All text is
escaped by the template; the only markup that passes unescaped is drawn by `nascore.figures` and by
`nascore.spaces.drawing`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import yaml
from markupsafe import Markup
from numpy.typing import NDArray

from nascore.config import OBJECTIVES
from nascore.figures import formatting, run_charts
from nascore.figures.templates import make_environment
from nascore.genotype import Genotype
from nascore.report import classes, ensemble, facts, references
from nascore.report.sections import sections_of
from nascore.results import Arm, SearchResult

NUM_BEST = 10
_BADGES = {"better": "Better", "not better": "Not better", "undecided": "Undecided"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Content of the page of one run.

    Attributes:
        result: content of `result.json`; accuracies are fractions. Absent keys are shown as not
            available.
        search: both arms with all their children.
        describe: returns one line of text for a genotype, such as `space.describe`.
        architecture_svg: drawing of the found architecture (`nascore.spaces.drawing`), which is
            trusted markup.
        config: the whole resolved configuration.
        dataset: `nascore.data.prepared.DatasetInfo.to_dict()`.
        latency: `nascore.latency.benchmark.LatencyResult.to_dict()`, and keys of some methods.
        step_seconds: wall seconds by step, in order.
        step_busy: seconds of the same steps by `data`, `training` and `profiling`.
        command: command that repeats this run, one or more lines.
        details: `nascore.training.final_model.FinalModel.details`, content of the sections of
            methods.
        images: pixels (C, H, W) of validation images that the details name, by their places.
        test_images: pixels of the test images that `nascore.report.classes.places` names.
    """

    result: Mapping[str, Any]
    search: SearchResult
    describe: Callable[[Genotype], str] = lambda genotype: genotype.short_hash
    architecture_svg: str | None = None
    config: Mapping[str, Any] | None = None
    dataset: Mapping[str, Any] | None = None
    latency: Mapping[str, Any] | None = None
    step_seconds: Mapping[str, float] | None = None
    step_busy: Mapping[str, Mapping[str, float]] | None = None
    command: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    test_images: Mapping[int, NDArray[Any]] = field(default_factory=dict)


def render(report: Report) -> str:
    """Return the page as one HTML document without scripts, which loads nothing.

    Raises:
        ValueError: `architecture_svg` is not an SVG element.
    """
    environment = make_environment(__package__)
    return environment.get_template("page.html.j2").render(
        method=report.search.method,
        data_name=_data_name(report),
        result=report.result,
        search=report.search,
        genotype_line=_genotype_line(report),
        architecture=_architecture(report),
        sections=sections_of(report.details, report.latency, report.images),
        figures=_figures(report),
        classes=classes.section(report.result, report.test_images),
        figure=_objective(report),
        curve=run_charts.search_curve(
            *_arms(report), lambda child: report.describe(child.genotype), figure=_objective(report)
        ),
        milestones=_milestones(report.search),
        best_children=_best_children(report),
        verdict=_verdict(report),
        references=references.section(report.result, _objective(report)),
        ensemble=ensemble.section(report.result),
        latency=report.latency,
        latency_target=_latency_target(report),
        cost=facts.cost(report.step_seconds, report.step_busy),
        dataset=facts.dataset(report.dataset),
        command=report.command,
        config=_yaml(report.config),
        test_interval=_test_interval(report),
    )


# --- headline -------------------------------------------------------------------------------


def _data_name(report: Report) -> str:
    """Return `digits`, or the last part of a path without its suffix."""
    if report.dataset is None:
        return "unnamed data"
    source = str(report.dataset.get("source", "unnamed data"))
    _, _, path = source.partition(":")
    return PurePath(path).stem if path else source


def _figures(report: Report) -> list[dict[str, str]]:
    """Return the tiles below the headline."""
    result, latency = report.result, report.latency or {}
    interval = _test_interval(report)
    num_params, macs = result.get("num_params"), result.get("macs")
    latency_note = f"median; p95 {formatting.milliseconds(latency.get('p95_ms'))}, batch of "
    return [
        _figure(
            "Test accuracy",
            formatting.percent(result.get("test_accuracy")),
            "95% interval {} to {}".format(*(formatting.percent(end, 1) for end in interval))
            if interval
            else "of data used for nothing else",
        ),
        _figure(
            "Validation accuracy",
            formatting.percent(result.get("valid_accuracy")),
            f"in the search: {formatting.percent(report.search.valid_accuracy)}",
        ),
        *_objective_figure(report),
        _figure(
            "Parameters",
            formatting.short_count(num_params),
            f"{num_params:,} weights" if (num_params or 0) >= 1e6 else "of the final network",
        ),
        _figure(
            "MACs",
            formatting.short_count(macs),
            f"{macs:,} for one image" if (macs or 0) >= 1e6 else "for one image",
        ),
        _figure(
            "Latency",
            formatting.milliseconds(latency.get("p50_ms")),
            f"{latency_note}{latency.get('batch_size', 'unknown size')}",
        ),
    ]


def _objective(report: Report) -> str:
    return OBJECTIVES[report.search.objective]


def _objective_figure(report: Report) -> list[dict[str, str]]:
    """Return the tile of the objective, where that is not the accuracy."""
    if report.search.objective == "accuracy":
        return []
    valid = formatting.percent(report.result.get("valid_score"))
    in_search = formatting.percent(report.search.score)
    note = f"the objective; validation {valid}, in the search {in_search}"
    label = f"Test {_objective(report)}"
    return [_figure(label, formatting.percent(report.result.get("test_score")), note)]


def _figure(label: str, value: str, note: str) -> dict[str, str]:
    if value == formatting.MISSING:
        value, note = "–", formatting.MISSING
    return {"label": label, "value": value, "note": note}


def _test_interval(report: Report) -> tuple[float, float] | None:
    accuracy = report.result.get("test_accuracy")
    dataset = report.dataset or {}
    num_test = dataset.get("num_test")
    # Where the splits have different classes it is a mean over tasks, and not a share of images.
    if accuracy is None or not num_test or dataset.get("class_splits") is not None:
        return None
    return formatting.wilson_interval(accuracy, num_test)


def _genotype_line(report: Report) -> str:
    """Return the trained architecture; a retraining may train one that no search has found."""
    known = report.result.get("architecture")
    return str(known["text"]) if known else report.describe(report.search.genotype)


def _architecture(report: Report) -> Markup | None:
    if report.architecture_svg is None:
        return None
    if not report.architecture_svg.lstrip().startswith("<svg"):
        raise ValueError(
            f"architecture_svg must be an <svg> element, got {report.architecture_svg[:40]!r}"
        )
    return Markup(report.architecture_svg)


# --- search and verdict ---------------------------------------------------------------------


def _arms(report: Report) -> tuple[Arm, Arm | None]:
    return report.search.arm, report.search.control


def _milestones(search: SearchResult) -> list[dict[str, Any]]:
    """Return the best so far of both arms after 1, 2, 5, 10, ... children and at the end."""
    curve = run_charts.best_so_far(search.arm.children)
    other = [] if search.control is None else run_charts.best_so_far(search.control.children)
    end = max(len(curve), len(other))
    rounds = [factor * 10**power for power in range(9) for factor in (1, 2, 5)]
    return [
        {
            "children": number,
            "method": curve[number - 1] if number <= len(curve) else None,
            "control": other[number - 1] if number <= len(other) else None,
        }
        for number in [*(number for number in rounds if number < end), end]
        if number > 0
    ]


def _best_children(report: Report) -> list[dict[str, Any]]:
    finished = [child for child in report.search.arm.children if child.scores is not None]
    finished.sort(key=lambda child: (-(child.score or 0.0), child.number))
    return [
        {
            "number": child.number + 1,
            "line": report.describe(child.genotype),
            "hash": child.genotype.short_hash,
            "scores": child.scores,
            "duration_s": child.duration_s,
            "is_winner": child.genotype == report.search.genotype,
        }
        for child in finished[:NUM_BEST]
    ]


def _verdict(report: Report) -> dict[str, Any] | None:
    verdict = report.search.verdict
    if verdict is None:
        return None
    chart = None
    if verdict.get("interval") is not None and verdict.get("difference") is not None:
        low, high = verdict["interval"]
        chart = run_charts.interval(
            verdict["difference"],
            low,
            high,
            margin=verdict.get("margin"),
            outcome=verdict["outcome"],
        )
    return {
        **dict.fromkeys(("difference", "interval", "p_value", "margin", "best_difference")),
        **dict.fromkeys(("num_method_failed", "num_control_failed"), 0),
        "confidence": 0.95,
        "statistic": "",
        **verdict,
        "badge": _BADGES.get(verdict["outcome"], verdict["outcome"]),
        "kind": str(verdict["outcome"]).replace(" ", "-"),
        "chart": chart,
    }


# --- latency and configuration ---------------------------------------------------------------


def _latency_target(report: Report) -> dict[str, Any] | None:
    target = ((report.config or {}).get("latency") or {}).get("target_ms")
    if target is None or report.latency is None:
        return None
    return {"target_ms": target, "is_met": report.latency["p50_ms"] <= target}


def _yaml(config: Mapping[str, Any] | None) -> str | None:
    if config is None:
        return None
    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return text
