"""The comparison with standard networks as lines of Markdown, from the content of `result.json`."""

from collections.abc import Mapping
from typing import Any

from components.steps.markdown import table
from nascore.figures import formatting
from nascore.reference.plan import FOUND

_HEADER = (
    "network",
    "test accuracy",
    "found minus it",
    "p",
    "latency",
    "parameters",
    "training",
)


def with_registered(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `result.json` with the registered network in place of the found one, if it differs."""
    shipped = result["shipped"]
    return result if shipped is None else {**result, **shipped}


def references(result: Mapping[str, Any]) -> list[str]:
    """Return the recommendation and a table of all compared networks."""
    recommended, shipped = result["recommendation"], result["shipped"]
    lines = [recommended["why"]]
    if shipped is not None:
        lines = [f"This model is `{shipped['name']}` and not the found network.", "", *lines]
    elif recommended["ship"] != FOUND and result["references"]:
        name = recommended["ship"]
        lines = [f"This model is the found network; `{name}` is recommended.", "", *lines]
    rows = reference_rows(result)
    if rows:
        lines += [
            "",
            *table(_HEADER, rows),
            "",
            "Differences are in percentage points of test accuracy, with the p-value of McNemar's "
            "exact test on the same images. The recommendation is by validation score.",
        ]
    left_out = result["references_left_out"]
    return [*lines, *(f"\n{one['name']} was left out: {one['reason']}." for one in left_out)]


def reference_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells of a table; empty where nothing was compared."""
    control = (result["control"] or {}).get("final")
    rows = [result["found"], control, *result["references"]]
    return [_cells(row) for row in rows if row is not None]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    is_compared = "difference" in row
    return (
        row["name"],
        formatting.percent(row["test_accuracy"]),
        formatting.points(row["difference"]) if is_compared else "",
        formatting.p_value(row["p_value"]) if is_compared else "",
        formatting.milliseconds(row["latency_ms"]),
        formatting.count(row["params"]),
        formatting.duration(row["seconds"]),
    )
