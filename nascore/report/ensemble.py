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
    """Return a sentence on the ensemble and the found network, and one on a better finalist.

    Args:
        ensemble: value of `ensemble` in `result.json`.
    """
    latency = formatting.milliseconds(ensemble["latency"]["p50_ms"])
    points = formatting.points(-ensemble["difference"])
    sentence = (
        f"The ensemble of {len(ensemble['members'])} finalists has "
        f"{formatting.percent(ensemble['test_accuracy'])} test accuracy, {points} points against "
        f"the found network (p = {formatting.p_value(ensemble['p_value'])}), a median latency of "
        f"{latency} and {formatting.count(ensemble['num_params'])} parameters."
    )
    winner, *others = ensemble["members"]
    scores = [one["valid_accuracy"] for one in others]
    if max(scores) <= winner["valid_accuracy"]:
        return sentence
    place = scores.index(max(scores))
    return (
        f"{sentence} After the final training, finalist {place + 2} has a validation accuracy of "
        f"{formatting.percent(scores[place])}, and the winner of the search, finalist 1, one of "
        f"{formatting.percent(winner['valid_accuracy'])}."
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
