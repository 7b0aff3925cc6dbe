"""Section of the page with the ensemble of the finalists of a search."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from nascore.figures import formatting
from nascore.figures.templates import make_environment


def rows_of(ensemble: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each member, and one for the ensemble.

    Args:
        ensemble: value of `ensemble` in `result.json`.
    """
    members = [
        {"name": f"finalist {place}", **member}
        for place, member in enumerate(ensemble["members"], start=1)
    ]
    whole = {
        "name": "ensemble",
        "latency_ms": ensemble["latency"]["p50_ms"],
        "architecture": f"all {len(members)}, one after the other",
    }
    return [*members, {**ensemble, **whole}]


def statement(ensemble: Mapping[str, Any]) -> str:
    """Return one sentence on the ensemble and the found network.

    Args:
        ensemble: value of `ensemble` in `result.json`.
    """
    latency = formatting.milliseconds(ensemble["latency"]["p50_ms"])
    points = formatting.points(-ensemble["difference"])
    return (
        f"The ensemble of {len(ensemble['members'])} finalists has "
        f"{formatting.percent(ensemble['test_accuracy'])} test accuracy, {points} points against "
        f"the found network (p = {formatting.p_value(ensemble['p_value'])}), a median latency of "
        f"{latency} and {formatting.count(ensemble['num_params'])} parameters."
    )


def section(result: Mapping[str, Any]) -> Markup:
    """Return the section as markup; empty where no ensemble was trained.

    Args:
        result: content of `result.json`.
    """
    ensemble = result.get("ensemble")
    if ensemble is None:
        return Markup()
    template = make_environment(__package__).get_template("ensemble.html.j2")
    rows = rows_of(ensemble)
    return Markup(template.render(statement=statement(ensemble), rows=rows))  # it escapes
