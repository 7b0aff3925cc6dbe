"""A search within a budget: how the distribution changed while the budget was spent."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.figures import formatting
from nascore.figures.svg import WIDTH, Plot, chart, element
from nascore.figures.templates import make_environment

_AXIS_NAMES = {
    "branch": "Operation",
    "type": "Type of convolution",
    "height": "Height of the kernel",
    "width": "Width of the kernel",
    "dilation": "Dilation",
}

DETAILS = "nasib"
"""Key in `nascore.training.final_model.FinalModel.details` of what this section shows."""


def section(
    details: Mapping[str, Any],
    latency: Mapping[str, Any] | None,
    images: Mapping[int, NDArray[Any]],
) -> Markup:
    """The section as markup; see `nascore.methods.nasib.method` for the details."""
    environment = make_environment(
        __package__, percent=formatting.percent, duration=formatting.duration
    )
    rows = details["history"]
    return Markup(  # the template escapes
        environment.get_template("report.html.j2").render(
            details=details,
            rows=rows,
            course=Markup(_course(details)),
            axes=[
                (_AXIS_NAMES[axis], values, Markup(_areas(axis, values, rows)))
                for axis, values in details["values"].items()
                if len(values) > 1
            ],
        )
    )


def places(details: Mapping[str, Any]) -> list[int]:
    """Return no places: no images are shown."""
    return []


def _course(details: Mapping[str, Any]) -> str:
    """Uniform choices, entropy and candidates, each as a share of its largest value."""
    rows = details["history"]
    entropies = [sum(row["entropy"].values()) for row in rows]
    candidates = [row["candidates"] for row in rows]
    plot = Plot(70, 16, WIDTH - 16, 200, (0.0, 1.0), (0.0, 1.0))
    body = _frame(plot)
    for name, values in (
        ("exploration", [row["exploration"] for row in rows]),
        ("entropy", [value / max(max(entropies), 1e-9) for value in entropies]),
        ("candidates", [value / max(candidates) for value in candidates]),
    ):
        points = [(row["u"], value) for row, value in zip(rows, values, strict=True)]
        body.append(element("path", class_=f"line {name}", d=_path(plot, points)))
    x = plot.at_x(details["exploring_share"])
    body.append(element("line", class_="baseline", x1=x, x2=x, y1=plot.top, y2=plot.bottom))
    told = (
        f"Uniform choices end at {formatting.percent(details['exploring_share'], 0)} of the "
        f"budget; candidates fall from {candidates[0]:g} to {candidates[-1]:g} an edge"
    )
    return chart("course", 236, told, body)


def _areas(axis: str, values: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Probabilities of an axis' values, one above the other: together they are 1."""
    plot = Plot(70, 12, WIDTH - 110, 150, (0.0, 1.0), (0.0, 1.0))
    below = [0.0] * len(rows)
    body = _frame(plot)
    for place, value in enumerate(values):
        above = [b + row["probs"][axis][place] for b, row in zip(below, rows, strict=True)]
        upper = [(row["u"], y) for row, y in zip(rows, above, strict=True)]
        lower = [(row["u"], y) for row, y in zip(rows, below, strict=True)]
        outline = _path(plot, [*upper, *reversed(lower)]) + " Z"
        shade = f"{0.9 - 0.75 * place / max(1, len(values) - 1):.2f}"
        body.append(element("path", class_="area", style=f"fill-opacity: {shade}", d=outline))
        if above[-1] - below[-1] > 0.04:
            middle = plot.at_y((above[-1] + below[-1]) / 2)
            text = f"{value} {formatting.percent(above[-1] - below[-1], 0)}"
            body.append(element("text", text, class_="label", x=plot.right + 8, y=middle + 4))
        below = above
    last = rows[-1]["probs"][axis]
    told = ", ".join(
        f"{value} {formatting.percent(p, 0)}" for value, p in zip(values, last, strict=True)
    )
    return chart("areas", 182, f"{_AXIS_NAMES[axis]}, at the end, over all edges: {told}", body)


def _frame(plot: Plot) -> list[str]:
    body = []
    for value in (0.0, 0.5, 1.0):
        y = plot.at_y(value)
        body.append(element("line", class_="grid", x1=plot.left, x2=plot.right, y1=y, y2=y))
        label = formatting.percent(value, 0)
        body.append(element("text", label, class_="end", x=plot.left - 8, y=y + 4))
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        label = formatting.percent(value, 0) + (" spent" if value == 1 else "")
        x = plot.at_x(value)
        body.append(element("text", label, class_="middle", x=x, y=plot.bottom + 18))
    return body


def _path(plot: Plot, points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{plot.at_x(x):.2f},{plot.at_y(y):.2f}" for x, y in points)
