"""Environment of page templates, which escape text and refuse missing values."""

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def make_environment(package: str, **filters: Callable[..., Any]) -> Environment:
    """Return the environment of the templates in a package, with these filters by name.

    The style sheet of all pages, `page.css.j2`, is found from each package.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("nascore.figures", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment
