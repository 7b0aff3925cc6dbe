"""What only some methods have to say: a section of the page for each key of a model's details."""

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.methods.auto_meta import report
from nascore.methods.instanas import report as per_image
from nascore.methods.nasib import report as within_budget

Section = Callable[
    [Mapping[str, Any], Mapping[str, Any] | None, Mapping[int, NDArray[Any]]], Markup
]
"""(own details, latency, images by their place in the validation split) -> a `section` element."""

SECTIONS: Mapping[str, Section] = {
    "instanas": per_image.section,
    "auto_meta": report.section,
    "nasib": within_budget.section,
}
"""By the key in `nascore.training.final_model.FinalModel.details`."""


def sections_of(
    details: Mapping[str, Any],
    latency: Mapping[str, Any] | None,
    images: Mapping[int, NDArray[Any]],
) -> list[Markup]:
    """Those that the details have something for, in a fixed order."""
    return [make(details[key], latency, images) for key, make in SECTIONS.items() if key in details]
