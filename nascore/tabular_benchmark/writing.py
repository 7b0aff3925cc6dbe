"""A replay as JSON, as a Markdown table and as a figure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nascore.figures.svg import element, ticks
from nascore.tabular_benchmark.replay import Outcome, ReplayPlan
from nascore.tabular_benchmark.statistics import interval, paired_tests, summary
from nascore.versions import versions

VERSION = 1
FILES = ("bench.json", "bench.md", "bench.svg")

# Okabe and Ito's colours, which colour-blind people tell apart; dashes when they come again.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = (None, "6 3", "2 3")
_WIDTH, _HEIGHT = 820, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 610, 36, 372
_STYLE = (
    "text { font: 13px system-ui, sans-serif; fill: #222 } "
    ".small { font-size: 11px; fill: #555 } .grid { stroke: #ddd } "
    ".line { fill: none; stroke-width: 2 } .band { opacity: 0.15 }"
)


def document(plan: ReplayPlan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The result as it is written to JSON; values are in the table's unit."""
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
    """Writes `FILES` into `folder`, which is made when it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = (json.dumps(result, indent=1) + "\n", markdown(result), figure(result, outcomes))
    for name, text in zip(FILES, texts, strict=True):
        (folder / name).write_text(text, encoding="utf-8")


# --- Markdown -------------------------------------------------------------------------------


def markdown(result: dict[str, Any]) -> str:
    """Two tables: the figures of each method, and the tests."""
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
    """Two decimals for percents, four for smaller units."""
    return 2 if abs(result["table"]["best"]) >= 10 else 4


def _probability(p: float) -> str:
    return f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


# --- the figure -----------------------------------------------------------------------------


def figure(result: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Best so far over queries as SVG: mean over seeds, with the 95 % interval of the mean."""
    digits = _digits(result)
    means = [outcome.curves.mean(axis=0) for outcome in outcomes]
    num_queries = len(means[0])
    # The first few queries lie far below all that matters and would flatten the rest.
    low = min(float(mean[max(0, num_queries // 10 - 1)]) for mean in means)
    high = max(result["table"]["best"], *(float(mean[-1]) for mean in means))
    span = (high - low) or 1.0
    y = (low - 0.02 * span, high + 0.04 * span)
    body = [element("style", _STYLE), _clip(), *_axes(result, num_queries, y)]
    for index, outcome in enumerate(outcomes):
        body += _method(index, outcome, y, digits)
    text = "; ".join(f"{one['method']} {_figure(one['mean'], digits)}" for one in result["results"])
    return element(
        "svg",
        "".join(body),
        raw=True,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"Best so far over queries, mean of {result['seeds']} seeds: {text}.",
    )


def _clip() -> str:
    box = element("rect", x=_LEFT, y=_TOP, width=_RIGHT - _LEFT, height=_BOTTOM - _TOP)
    return element("clipPath", box, raw=True, id="plot") + element(
        "rect", width=_WIDTH, height=_HEIGHT, fill="#fff"
    )


def _axes(result: dict[str, Any], num_queries: int, y: tuple[float, float]) -> list[str]:
    parts = []
    for value in ticks(*y, 6):
        at = _at_y(value, y)
        parts.append(element("line", x1=_LEFT, x2=_RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(
            element("text", f"{value:g}", x=_LEFT - 8, y=at + 4, text_anchor="end", class_="small")
        )
    for value in ticks(1, max(2, num_queries), 6):
        x = _at_x(value, num_queries)
        parts.append(
            element("text", f"{value:g}", x=x, y=_BOTTOM + 18, text_anchor="middle", class_="small")
        )
    best = _at_y(result["table"]["best"], y)
    parts.append(element("line", x1=_LEFT, x2=_RIGHT, y1=best, y2=best, stroke="#888"))
    parts.append(element("text", "best of the table", x=_LEFT + 6, y=best - 4, class_="small"))
    middle = (_LEFT + _RIGHT) / 2
    label = "architectures asked for"
    parts.append(element("text", label, x=middle, y=_BOTTOM + 38, text_anchor="middle"))
    title = f"{result['table']['report_metric']}, best by {result['table']['search_metric']} so far"
    return [*parts, element("text", title, x=_LEFT, y=18)]


def _method(index: int, outcome: Outcome, y: tuple[float, float], digits: int) -> list[str]:
    mean = outcome.curves.mean(axis=0)
    colour = _COLOURS[index % len(_COLOURS)]
    dash = _DASHES[index // len(_COLOURS) % len(_DASHES)]
    num_queries = len(mean)
    bounds = np.array([interval(column) or [column[0]] * 2 for column in outcome.curves.T])
    band = [*enumerate(bounds[:, 0]), *reversed(list(enumerate(bounds[:, 1])))]
    path = _points([(i + 1, v) for i, v in enumerate(mean)], num_queries, y)
    parts = [
        element(
            "polygon",
            points=_points([(i + 1, v) for i, v in band], num_queries, y),
            class_="band",
            fill=colour,
            clip_path="url(#plot)",
        ),
        element(
            "polyline",
            points=path,
            class_="line",
            stroke=colour,
            stroke_dasharray=dash,
            clip_path="url(#plot)",
        ),
    ]
    at, start = _TOP + 10 + 20 * index, _RIGHT + 14
    name = f"{outcome.entry.label} {_figure(float(mean[-1]), digits)}"
    parts += [
        element(
            "line",
            x1=start,
            x2=start + 24,
            y1=at,
            y2=at,
            class_="line",
            stroke=colour,
            stroke_dasharray=dash,
        ),
        element("text", name, x=start + 30, y=at + 4, class_="small"),
    ]
    return parts


def _points(pairs: Sequence[tuple[int, float]], num_queries: int, y: tuple[float, float]) -> str:
    return " ".join(f"{_at_x(x, num_queries):.1f},{_at_y(v, y):.1f}" for x, v in pairs)


def _at_x(query: float, num_queries: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (query - 1) / max(1, num_queries - 1)


def _at_y(value: float, y: tuple[float, float]) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * (value - y[0]) / (y[1] - y[0])
