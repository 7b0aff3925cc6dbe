"""Section of the page with the metrics of each class: table, confusion matrix, confused pairs."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.data.pictures import data_uri
from nascore.figures.chart import Chart
from nascore.figures.plots import confusion_matrix
from nascore.figures.templates import make_environment

MAX_ROWS = 100
"""Classes in the table; where there are more, those with the lowest recall."""
MAX_DRAWN = 30
"""Classes up to which the matrix is drawn."""


def section(result: Mapping[str, Any], images: Mapping[int, NDArray[Any]]) -> Markup:
    """Return the section as markup.

    Args:
        result: content of `result.json`.
        images: pixels (C, H, W) by their place in the test split.
    """
    per_class = result.get("per_class")
    rows = [{"name": name, **row} for name, row in (per_class or {}).items()]
    if len(rows) > MAX_ROWS:
        rows.sort(key=lambda row: (row["recall"] is None, row["recall"]))
    environment = make_environment(__package__)
    return Markup(  # the template escapes
        environment.get_template("classes.html.j2").render(
            result=result,
            is_known="per_class" in result,
            rows=rows[:MAX_ROWS],
            num_classes=len(rows),
            matrix=matrix(result),
            max_drawn=MAX_DRAWN,
            pairs=[
                {**pair, "uris": [data_uri(images[i]) for i in pair["examples"] if i in images]}
                for pair in result.get("confused") or ()
            ],
        )
    )


def places(result: Mapping[str, Any]) -> list[int]:
    """Return the places of the images that are shown, in the test split."""
    return sorted({place for pair in result.get("confused") or () for place in pair["examples"]})


def matrix(result: Mapping[str, Any]) -> Chart | None:
    """Return the confusion matrix; None for few-shot networks and for too many classes."""
    per_class = result.get("per_class")
    if not per_class or len(per_class) > MAX_DRAWN:
        return None
    return confusion_matrix(list(per_class), result["confusion"])
