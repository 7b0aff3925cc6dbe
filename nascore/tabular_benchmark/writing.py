"""Writes the results of a benchmark as JSON, Markdown and a figure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nascore.figures.chart import PALETTE, Chart, figure_of, make_axes
from nascore.figures.plots import set_ticks
from nascore.tabular_benchmark.replay import Outcome, ReplayPlan
from nascore.tabular_benchmark.statistics import interval, paired_tests, summary
from nascore.versions import versions

VERSION = 1
FILES = ("bench.json", "bench.md", "bench.svg")

# Okabe and Ito's colours, distinguishable by colour-blind readers; dashes when they repeat.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("-", "--", ":")


def document(plan: ReplayPlan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the results as JSON, with values in the table's unit."""
    table = plan.table
    return {
        "version": VERSION,
        "table": {
            "name": table.name,
            "sha256": table.sha256,
            "space": table.space.identifier,
            "rows": len(table.rows),
            "coverage": table.coverage,
            "search_metric": table.search_metric,
            "report_metric": table.report_metric,
            "best": max(report for _, report in table.rows.values()),
        },
        "queries": plan.queries,
        "seeds": len(plan.seeds),
        "first_seed": plan.seeds.start,
        "results": [summary(outcome) for outcome in outcomes],
        "tests": paired_tests(outcomes),
        "versions": versions(),
    }


def write(folder: Path, result: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write `FILES` into a folder, which is created when it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(
        FILES, (json.dumps(result, indent=1) + "\n", markdown(result)), strict=False
    ):
        (folder / name).write_text(text, encoding="utf-8")
    figure(result, outcomes).save(folder / FILES[2])


# --- Markdown -------------------------------------------------------------------------------


def markdown(result: dict[str, Any]) -> str:
    """Return two tables: the figures of each method, and the tests."""
    table, digits = result["table"], _digits(result)
    points = list(result["results"][0]["curve"])
    header = ["method", *(f"at {point}" for point in points), "95 % interval", "median", "std"]
    header += ["ms per suggestion", "s pre-training"]
    with_verdicts = "verdicts" in result["results"][0]
    header += ["called better"] * with_verdicts
    rows = [
        [
            one["method"],
            *(_figure(one["curve"][point], digits) for point in points),
            _range(one["ci95"], digits),
            _figure(one["median"], digits),
            _figure(one["std"], digits),
            f"{1000 * one['seconds_per_suggestion']:.2f}",
            f"{one['pretrain_seconds']:.1f}",
            *([f"{one['verdicts']['better']:.1%}"] if with_verdicts else []),
        ]
        for one in result["results"]
    ]
    best = _figure(table["best"], digits)
    parts = [
        f"{table['report_metric']} of the best architecture by {table['search_metric']}, after so "
        f"many architectures of {table['name']} ({table['rows']:,} architectures, "
        f"{table['coverage']:.3%} of the space; the best has {best}). Means over "
        f"{result['seeds']} seeds; interval, median and std are those after {result['queries']}.",
        _grid(header, rows),
    ]
    if result["tests"]:
        tests = [
            [
                test["method"],
                test["against"],
                _figure(test["difference"], digits + 1, "+"),
                _range(test["ci95"], digits + 1, "+"),
                _probability(test["p"]),
                _probability(test["p_corrected"]),
            ]
            for test in result["tests"]
        ]
        header = ["method", "against", "difference", "95 % interval", "p", "p corrected"]
        parts += [
            f"{result['tests'][0]['test'].capitalize()}; Holm's correction.",
            _grid(header, tests),
        ]
    return "\n\n".join(parts) + "\n"


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def _figure(value: float | None, digits: int, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def _range(bounds: Sequence[float] | None, digits: int, sign: str = "") -> str:
    return "–" if bounds is None else " to ".join(_figure(b, digits, sign) for b in bounds)


def _digits(result: dict[str, Any]) -> int:
    """Return two decimals for percentages, four for smaller units."""
    return 2 if abs(result["table"]["best"]) >= 10 else 4


def _probability(p: float) -> str:
    return f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


# --- the figure -----------------------------------------------------------------------------


def figure(result: dict[str, Any], outcomes: Sequence[Outcome]) -> Chart:
    """Plot the best so far over queries: mean over seeds, with the 95 % interval of the mean."""
    digits, table = _digits(result), result["table"]
    means = [outcome.curves.mean(axis=0) for outcome in outcomes]
    num_queries = len(means[0])
    # The first few queries are far below the others and would compress the rest of the axis.
    low = min(float(mean[max(0, num_queries // 10 - 1)]) for mean in means)
    high = max(table["best"], *(float(mean[-1]) for mean in means))
    span = (high - low) or 1.0
    axes = make_axes(420, left=64, right=200, top=36)
    axes.set(xlim=(1, max(2, num_queries)), ylim=(low - 0.02 * span, high + 0.04 * span))
    set_ticks(axes.yaxis, 6, "{:g}".format)
    set_ticks(axes.xaxis, 6, "{:g}".format)
    title = f"{table['report_metric']}, best by {table['search_metric']} so far"
    axes.set_title(title, loc="left", fontsize=13)
    axes.set_xlabel("architectures queried", fontsize=13)
    axes.axhline(table["best"], color=PALETTE["overhead"], label="best of the table")
    for index, (outcome, mean) in enumerate(zip(outcomes, means, strict=True)):
        bounds = np.array([interval(column) or [column[0]] * 2 for column in outcome.curves.T])
        colour, x = _COLOURS[index % len(_COLOURS)], np.arange(1, num_queries + 1)
        dashes = _DASHES[index // len(_COLOURS) % len(_DASHES)]
        axes.fill_between(x, *bounds.T, color=colour, alpha=0.15, linewidth=0)
        label = f"{outcome.entry.label} {_figure(float(mean[-1]), digits)}"
        axes.plot(x, mean, color=colour, linestyle=dashes, gid="mean", label=label)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=11)
    means_text = "; ".join(
        f"{one['method']} {_figure(one['mean'], digits)}" for one in result["results"]
    )
    text = f"Best so far over queries, mean of {result['seeds']} seeds: {means_text}."
    return Chart(figure_of(axes), "bench", text)
