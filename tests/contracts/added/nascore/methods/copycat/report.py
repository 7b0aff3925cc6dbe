"""The section of the method in the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

DETAILS = "copycat"


def places(details: Mapping[str, Any]) -> Sequence[int]:
    return []


def section(details: Mapping[str, Any], latency: Any, images: Any) -> Markup:
    return Markup("<section>copied with width {}</section>").format(details["width"])
