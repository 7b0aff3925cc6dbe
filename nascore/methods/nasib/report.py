"""Report section of NASIB: the distribution over the spent budget."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.figures import formatting
from nascore.figures.chart import Chart, figure_of
from nascore.figures.plots import Line, areas, draw_line, make_fraction_axes
from nascore.methods.common.report_section import render_section

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
    """Return the section as markup; see `nascore.methods.nasib.method` for the details."""
    rows = details["history"]
    return render_section(
        __package__,
        details=details,
        rows=rows,
        course=_course(details),
        axes=[
            (_AXIS_NAMES[axis], values, _probabilities(axis, values, rows))
            for axis, values in details["values"].items()
            if len(values) > 1
        ],
    )


def places(details: Mapping[str, Any]) -> list[int]:
    """Return no places: no images are shown."""
    return []


def _course(details: Mapping[str, Any]) -> Chart:
    """Plot uniform choices, entropy and candidates, each as a fraction of its largest value."""
    rows = details["history"]
    entropies = [sum(row["entropy"].values()) for row in rows]
    candidates = [row["candidates"] for row in rows]
    axes = make_fraction_axes(236, "spent", right=36)
    for name, colour, values in (
        ("exploration", "method", [row["exploration"] for row in rows]),
        ("entropy", "control", [value / max(max(entropies), 1e-9) for value in entropies]),
        ("candidates", "good", [value / max(candidates) for value in candidates]),
    ):
        points = [(row["u"], value) for row, value in zip(rows, values, strict=True)]
        draw_line(axes, Line(name, colour, points))
    exploring = details["exploring_share"]
    draw_line(axes, Line("baseline", "muted", [(exploring, 0), (exploring, 1)], (5, 4)), width=1)
    text = (
        f"Uniform choices end at {formatting.percent(exploring, 0)} of the budget; "
        f"candidates fall from {candidates[0]:g} to {candidates[-1]:g} per edge"
    )
    return Chart(figure_of(axes), "course", text)


def _probabilities(axis: str, values: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Plot the probabilities of the values of an axis, one above the other."""
    title = f"{_AXIS_NAMES[axis]}, at the end, over all edges"
    shares = {
        str(value): [row["probs"][axis][place] for row in rows]
        for place, value in enumerate(values)
    }
    return areas([row["u"] for row in rows], shares, x_suffix="spent", title=title)
