"""The ensemble of the finalists as lines of Markdown, from the content of `result.json`."""

from collections.abc import Mapping
from typing import Any

from components.steps.markdown import table
from nascore.figures import formatting
from nascore.report.ensemble import rows_of, statement

_HEADER = ("network", "test accuracy", "found minus it", "p", "latency", "parameters")


def section(result: Mapping[str, Any]) -> list[str]:
    """Return the section of the model card; empty where no ensemble was trained."""
    ensemble = result["ensemble"]
    if ensemble is None:
        return []
    return [
        f"{statement(ensemble)} This model is not the ensemble, which is stored in the folder "
        "`ensemble` of the artifact `model` of the final training.",
        "",
        *table(_HEADER, [_cells(row) for row in rows_of(ensemble)]),
        "",
        "The first finalist is the winner of the search. Differences are in percentage points of "
        "test accuracy, with the p-value of McNemar's exact test on the same images.",
    ]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        formatting.percent(row["test_accuracy"]),
        formatting.points(row["difference"]),
        formatting.p_value(row["p_value"]),
        formatting.milliseconds(row["latency_ms"]),
        formatting.count(row["num_params"]),
    )
