"""Section of the page with the networks that were compared with the found one."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from nascore.figures.templates import make_environment


def section(result: Mapping[str, Any], figure: str) -> Markup:
    """Return the section as markup.

    Args:
        result: content of `result.json`.
        figure: name of the metric of the search.
    """
    control = (result.get("control") or {}).get("final")
    rows = [result.get("found"), control, *result.get("references", ())]
    environment = make_environment(__package__)
    return Markup(  # the template escapes
        environment.get_template("references.html.j2").render(
            recommendation=result.get("recommendation"),
            rows=[row for row in rows if row is not None],
            shipped=result.get("shipped"),
            left_out=result.get("references_left_out", ()),
            figure=figure,
        )
    )
