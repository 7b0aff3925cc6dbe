"""Rendering of a method's section of the report."""

from typing import Any

from markupsafe import Markup

from nascore.figures.templates import make_environment


def render_section(package: str, **values: Any) -> Markup:
    """Render `report.html.j2` of a package; filters are percent, milliseconds and duration."""
    environment = make_environment(package)
    return Markup(environment.get_template("report.html.j2").render(**values))  # it escapes
