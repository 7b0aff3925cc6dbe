"""Figures of each class on the test split: a table, the confusion matrix, the confused pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.figures import formatting
from nascore.figures.pictures import data_uri
from nascore.figures.svg import WIDTH, chart, element
from nascore.figures.templates import make_environment

MAX_ROWS = 100
"""Classes in the table, those with the lowest recall first where there are more."""
MAX_DRAWN = 30
"""Classes of a matrix that is drawn."""
_MAX_NUMBERED = 20
_LABEL = 18
"""Characters of a class name on an axis."""


def section(result: Mapping[str, Any], images: Mapping[int, NDArray[Any]]) -> Markup:
    """The section as markup.

    Args:
        result: the content of `result.json`.
        images: pixels (C, H, W) by their place in the test split.
    """
    per_class = result.get("per_class")
    rows = [{"name": name, **row} for name, row in (per_class or {}).items()]
    if len(rows) > MAX_ROWS:
        rows.sort(key=lambda row: (row["recall"] is None, row["recall"]))
    environment = make_environment(__package__, percent=formatting.percent, count=formatting.count)
    return Markup(  # the template escapes
        environment.get_template("classes.html.j2").render(
            result=result,
            is_known="per_class" in result,
            rows=rows[:MAX_ROWS],
            num_classes=len(rows),
            matrix=Markup(svg) if (svg := matrix(result)) else None,
            max_drawn=MAX_DRAWN,
            pairs=[
                {**pair, "uris": [data_uri(images[i]) for i in pair["examples"] if i in images]}
                for pair in result.get("confused") or ()
            ],
        )
    )


def places(result: Mapping[str, Any]) -> list[int]:
    """Of the images that are shown, in the test split."""
    return sorted({place for pair in result.get("confused") or () for place in pair["examples"]})


def matrix(result: Mapping[str, Any]) -> str | None:
    """The confusion matrix as SVG; None of few-shot networks, and of too many classes."""
    per_class = result.get("per_class")
    if not per_class or len(per_class) > MAX_DRAWN:
        return None
    names, rows = list(per_class), result["confusion"]
    left, top = 170.0, 150.0
    side = min(44.0, (WIDTH - left - 20) / len(names))
    body = [
        element("text", "predicted", font_size=12.0, fill="currentColor", x=left, y=12.0),
        element("text", "true class", font_size=12.0, fill="currentColor", x=4.0, y=top - 8),
    ]
    for place, name in enumerate(names):
        middle = (place + 0.5) * side
        body += _axis_labels(_short(name), left, top, middle)
    for i, row in enumerate(rows):
        for j, count in enumerate(row):
            share = count / sum(row) if count else 0.0
            body += _cell(left + j * side, top + i * side, side, count, share, len(names))
    text = f"Confusion matrix of {len(names)} classes: rows are true, columns are predicted"
    return chart("confusion", top + side * len(names) + 10, text, body)


def standalone(svg: str) -> str:
    """A drawing of this module as a file of its own."""
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" color="black" ', 1)


def _short(name: str) -> str:
    return name if len(name) <= _LABEL else name[: _LABEL - 1] + "…"


def _axis_labels(name: str, left: float, top: float, middle: float) -> Sequence[str]:
    look: dict[str, Any] = {"font_size": 11.0, "fill": "currentColor"}
    x, y = left + middle + 4, top - 8
    return [
        element("text", name, text_anchor="end", x=left - 8, y=top + middle + 4, **look),
        element("text", name, x=x, y=y, transform=f"rotate(-60 {x:.1f} {y:.1f})", **look),
    ]


def _cell(x: float, y: float, side: float, count: int, share: float, size: int) -> Sequence[str]:
    """Darker for a larger share of the true class."""
    look: dict[str, Any] = {"fill": "#4251e0", "fill_opacity": share, "stroke": "#9aa2b5"}
    cell = [element("rect", x=x, y=y, width=side, height=side, stroke_width=0.5, **look)]
    if count and size <= _MAX_NUMBERED:
        colour = "white" if share > 0.5 else "currentColor"
        at: dict[str, Any] = {"x": x + side / 2, "y": y + side / 2 + 4, "text_anchor": "middle"}
        cell.append(element("text", str(count), fill=colour, font_size=11.0, **at))
    return cell
