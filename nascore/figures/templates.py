"""How templates of this package are read: escaped, and with an error for what is not there."""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def make_environment(**filters: Callable[..., Any]) -> Environment:
    """The templates in `nascore.report`, with these filters by name."""
    environment = Environment(
        loader=PackageLoader("nascore.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment
