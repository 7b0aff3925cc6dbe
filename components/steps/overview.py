"""The overview of a run in Kubeflow: a short Markdown page, and the numbers that compare runs."""

from collections.abc import Mapping
from typing import Any

from components.steps.registration import Promotion
from components.steps.run_results import RunResults
from components.steps.summary import num_trained
from components.tracking.links import Links
from nascore.figures import formatting
from nascore.redaction import redact
from nascore.report.ensemble import statement


def overview_page(
    results: RunResults, promotion: Promotion, summary: Mapping[str, Any], links: Links
) -> str:
    """Return the page: what was searched, the result, the verdict, where run and model are.

    Args:
        results: of the steps before the promotion.
        promotion: registered version and decision.
        summary: content of `result.json`.
        links: to the MLflow run and the model version.
    """
    config, search, final = results.config, results.search, results.final
    info, measured, verdict = results.splits.info, results.measured, search.verdict
    registered, decision = promotion.registered, promotion.decision
    failed = f", {summary['num_failed']} of them failed" if summary["num_failed"] else ""
    version = _link(f"{registered.name}, version {registered.version}", links.model)
    rows = {
        "verdict": verdict["statement"] if verdict else "not compared with random search",
        "recommendation": summary["recommendation"]["why"],
        "model": f"{version}: `{decision.alias}`, {decision.reason}",
        "MLflow run": _link(promotion.run_id, links.run),
        "method": f"{search.method}, seed {search.seed}{_reused(results)}",
        "data": f"{_plain(config.data.source)}: {info.num_images:,} images, "
        f"{len(info.classes)} classes",
        "search": f"{num_trained(search.arm)} children{failed} in "
        f"{formatting.duration(search.arm.seconds)}, the control not included",
        "architecture": f"`{summary['architecture']['text']}`",
        "size": f"{final.num_params:,} parameters, {final.macs:,} multiply-adds for one image",
        "latency": f"median {formatting.milliseconds(measured.p50_ms)} for a batch of "
        f"{measured.batch_size} on {measured.device}",
    }
    if summary["ensemble"] is not None:
        rows["ensemble"] = statement(summary["ensemble"])
    if summary.get("exported_to"):
        rows["files"] = f"`{summary['exported_to']}`"
    table = [f"| {name} | {' '.join(text.split())} |" for name, text in rows.items()]
    title = f"# Test accuracy {formatting.percent(final.test_accuracy)}{_interval(results)}"
    return redact("\n".join([title, "", "| | |", "| --- | --- |", *table])) + "\n"


def _reused(results: RunResults) -> str:
    version = results.reused_version
    return "" if version is None else f"; the architecture of version {version} was reused"


def comparable_numbers(results: RunResults) -> dict[str, float]:
    """Return the numbers by which runs are compared; those that a run does not have are left out.

    Accuracies are fractions. The cost is that of the search without pre-training and control, and
    the gain is the one of the verdict.
    """
    search, final = results.search, results.final
    values: dict[str, float | None] = {"test_accuracy": final.test_accuracy}
    if (interval := _bounds(results)) is not None:
        values |= {"test_accuracy_low": interval[0], "test_accuracy_high": interval[1]}
    values |= {
        "latency_p50_ms": results.measured.p50_ms,
        "num_params": float(final.num_params),
        "search_seconds": search.arm.seconds,
        "gain_over_random": search.verdict["difference"] if search.verdict else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _bounds(results: RunResults) -> tuple[float, float] | None:
    """Return the 95% interval of the test accuracy; None for a mean over few-shot tasks."""
    info = results.splits.info
    if info.class_splits is not None:
        return None
    return formatting.wilson_interval(results.final.test_accuracy, info.num_test)


def _interval(results: RunResults) -> str:
    bounds = _bounds(results)
    if bounds is None:
        return ""
    low, high = (formatting.percent(bound) for bound in bounds)
    return f" (95% interval {low} to {high}, {results.splits.info.num_test} images)"


def _link(text: str, address: str | None) -> str:
    return f"`{text}`" if address is None else f"[{text}]({address})"


def _plain(text: str) -> str:
    """Return text of the user without effect on the Markdown."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"
