"""An architecture for each image: which are in use, where they differ, and what they save."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.figures import formatting
from nascore.figures.pictures import data_uri
from nascore.figures.svg import WIDTH, Plot, chart, element, ticks
from nascore.figures.templates import make_environment
from nascore.spaces.mobilenet.space import OPS

MAX_IMAGES = 8
"""Shown of the fastest, and of the slowest."""

DETAILS = "instanas"
"""Key in `nascore.training.final_model.FinalModel.details` of what this section shows."""


def section(
    details: Mapping[str, Any],
    latency: Mapping[str, Any] | None,
    images: Mapping[int, NDArray[Any]],
) -> Markup:
    """The section as markup; see `nascore.methods.instanas.summary.describe` for the details."""
    environment = make_environment(
        __package__, percent=formatting.percent, milliseconds=formatting.milliseconds
    )
    unit = "ms" if details["unit"] == "ms" else "million multiply-adds"
    policies = details["policies"]
    return Markup(  # the template escapes
        environment.get_template("report.html.j2").render(
            details=details,
            policies=policies,
            reference=details.get("baseline"),
            operations=OPS,
            unit=unit,
            front=Markup(_front(details, unit)),
            measured=(latency or {}).get("per_image"),
            examples=[(name, _pictures(policies[name], images)) for name in ("fastest", "slowest")],
        )
    )


def places(details: Mapping[str, Any]) -> list[int]:
    """Return the places of the images that are shown, in the validation split."""
    policies = details.get("policies", {})
    shown = (policies.get(name, ())[:MAX_IMAGES] for name in ("fastest", "slowest"))
    return sorted({place for some in shown for place in some})


def accuracy_of(point: Mapping[str, Any]) -> float:
    """After further training where there was any, else as it was in the search."""
    tuned = point.get("valid_accuracy")
    return float(point["shared_accuracy"] if tuned is None else tuned)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A circle of the front, with what it is told to be."""

    name: str
    latency: float
    accuracy: float
    kind: str
    radius: int = 5

    def told(self, unit: str) -> str:
        return f"{self.name} {formatting.percent(self.accuracy)} at {self.latency:.4g} {unit}"


def _marks(details: Mapping[str, Any]) -> list[_Mark]:
    """The points of the search; and where MobileNetV2 was trained, that and the final network,
    which has learned for as long."""
    marks = []
    for point in details["front"]:
        is_chosen = point["name"] == details["point"]["name"]
        look = ("point chosen", 7) if is_chosen else ("point", 5)
        marks.append(_Mark(point["name"], float(point["latency"]), accuracy_of(point), *look))
    reference = details.get("baseline")
    if reference is not None:
        final = details["latency"], details["valid_accuracy"]
        marks.append(_Mark("final", *final, "point final"))
        beside = reference["latency"], reference["valid_accuracy"]
        marks.append(_Mark("MobileNetV2", *beside, "point reference"))
    return marks


def _front(details: Mapping[str, Any], unit: str) -> str:
    """Accuracy of each point over its latency, and a line at that of the first operations."""
    marks, baseline = _marks(details), float(details["table"]["baseline"])
    most = 1.1 * max(baseline, *(mark.latency for mark in marks))
    low, high = min(mark.accuracy for mark in marks), max(mark.accuracy for mark in marks)
    room = max(0.01, 0.15 * (high - low))
    plot = Plot(70, 16, WIDTH - 16, 220, (0.0, most), (low - room, high + room))
    body = []
    for value in ticks(*plot.y, 4):
        y = plot.at_y(value)
        body.append(element("line", class_="grid", x1=plot.left, x2=plot.right, y1=y, y2=y))
        label = formatting.percent(value, 1)
        body.append(element("text", label, class_="end", x=plot.left - 8, y=y + 4))
    for value in ticks(*plot.x, 6):
        body.append(element("text", f"{value:g}", class_="mid", x=plot.at_x(value), y=240))
    body.append(element("text", f"mean latency, {unit}", class_="end", x=plot.right, y=260))
    x = plot.at_x(baseline)
    body.append(element("line", class_="baseline", x1=x, x2=x, y1=plot.top, y2=plot.bottom))
    body.append(element("text", "MobileNetV2", class_="end", x=x - 6, y=plot.top + 12))
    for mark in marks:
        at_x, at_y = plot.at_x(mark.latency), plot.at_y(mark.accuracy)
        body.append(element("circle", class_=mark.kind, cx=at_x, cy=at_y, r=mark.radius))
        if mark.kind != "point reference":  # its line is named
            body.append(element("text", mark.name, class_="mid", x=at_x, y=at_y - 11))
    told = ", ".join(mark.told(unit) for mark in marks)
    return chart("front", 268, f"Accuracy and latency: {told}", body)


def _pictures(wanted: list[int], images: Mapping[int, NDArray[Any]]) -> list[tuple[int, str]]:
    return [(one, data_uri(images[one])) for one in wanted[:MAX_IMAGES] if one in images]
