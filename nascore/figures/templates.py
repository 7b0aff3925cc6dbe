"""Environment of page templates, which escape text and refuse missing values."""

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from nascore.figures import formatting

_FILTERS: dict[str, Callable[..., Any]] = {
    "percent": formatting.percent,
    "points": formatting.points,
    "count": formatting.count,
    "duration": formatting.duration,
    "milliseconds": formatting.milliseconds,
    "p_value": formatting.p_value,
}
"""How figures are written on all pages."""


def make_environment(package: str, **filters: Callable[..., Any]) -> Environment:
    """Return the environment of the templates in a package.

    Its filters are those of `nascore.figures.formatting` and the given ones. The style sheet of all
    pages, `page.css.j2`, is found from each package.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("nascore.figures", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS | filters)
    return environment
