"""Report section of InstaNAS: the policies in use, their differences, and the latency saved."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.data.pictures import data_uri
from nascore.figures.chart import Chart
from nascore.figures.plots import Mark, cost_accuracy
from nascore.methods.common.report_section import render_section
from nascore.spaces.mobilenet.network import OPS

MAX_IMAGES = 8
"""Number of the fastest and of the slowest images that are shown."""

DETAILS = "instanas"
"""Key in `nascore.training.final_model.FinalModel.details` of what this section shows."""


def section(
    details: Mapping[str, Any],
    latency: Mapping[str, Any] | None,
    images: Mapping[int, NDArray[Any]],
) -> Markup:
    """Return the section as markup.

    Args:
        details: see `nascore.methods.instanas.summary.describe`.
        latency: the latency result, if there is one.
        images: images of the validation split by position.
    """
    unit = "ms" if details["unit"] == "ms" else "million multiply-adds"
    policies = details["policies"]
    return render_section(
        __package__,
        details=details,
        policies=policies,
        reference=details.get("baseline"),
        operations=OPS,
        unit=unit,
        front=_front(details, unit),
        measured=(latency or {}).get("per_image"),
        examples=[(name, _pictures(policies[name], images)) for name in ("fastest", "slowest")],
    )


def places(details: Mapping[str, Any]) -> list[int]:
    """Return the places of the images that are shown, in the validation split."""
    policies = details.get("policies", {})
    shown = (policies.get(name, ())[:MAX_IMAGES] for name in ("fastest", "slowest"))
    return sorted({place for some in shown for place in some})


def accuracy_of(point: Mapping[str, Any]) -> float:
    """Return the accuracy after further training, if any, else that in the search."""
    tuned = point.get("valid_accuracy")
    return float(point["shared_accuracy"] if tuned is None else tuned)


def _marks(details: Mapping[str, Any]) -> list[Mark]:
    """Return the points of the search and, if MobileNetV2 was trained, both final networks."""
    marks = []
    for point in details["front"]:
        is_chosen = point["name"] == details["point"]["name"]
        kind = "point chosen" if is_chosen else "point"
        marks.append(Mark(point["name"], float(point["latency"]), accuracy_of(point), kind))
    reference = details.get("baseline")
    if reference is not None:
        final = details["latency"], details["valid_accuracy"]
        marks.append(Mark("final", *final, "point final"))
        measured = reference["latency"], reference["valid_accuracy"]
        # The line at its latency has its name.
        marks.append(Mark("MobileNetV2", *measured, "point reference", is_labelled=False))
    return marks


def _front(details: Mapping[str, Any], unit: str) -> Chart:
    """Plot the accuracy of each point over its latency, and that of the first operations."""
    baseline = float(details["table"]["baseline"])
    return cost_accuracy(_marks(details), baseline=baseline, baseline_name="MobileNetV2", unit=unit)


def _pictures(wanted: list[int], images: Mapping[int, NDArray[Any]]) -> list[tuple[int, str]]:
    return [(one, data_uri(images[one])) for one in wanted[:MAX_IMAGES] if one in images]
