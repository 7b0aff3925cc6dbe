"""Sections of the page that only some methods have, from the `report` module of each method."""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, cast

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.methods.registry import METHODS


class Section(Protocol):
    """The module `report` of a method.

    Attributes:
        DETAILS: key in `nascore.training.final_model.FinalModel.details` of what it shows.
    """

    DETAILS: str

    def section(
        self,
        details: Mapping[str, Any],
        latency: Mapping[str, Any] | None,
        images: Mapping[int, NDArray[Any]],
    ) -> Markup:
        """Return a `section` element.

        Args:
            details: those of its key.
            latency: content of `latency.json`, if there is one.
            images: pixels (C, H, W) of those that `places` has named.
        """
        ...

    def places(self, details: Mapping[str, Any]) -> list[int]:
        """Return the places of images of the validation split that the section shows."""
        ...


def sections_of(
    details: Mapping[str, Any],
    latency: Mapping[str, Any] | None,
    images: Mapping[int, NDArray[Any]],
) -> list[Markup]:
    """Return the sections that the details have something for, in the order of the registry."""
    return [each.section(details[each.DETAILS], latency, images) for each in _found(details)]


def places_of(details: Mapping[str, Any]) -> list[int]:
    """Return the places of all images that the sections show, each once."""
    places = (place for each in _found(details) for place in each.places(details[each.DETAILS]))
    return list(dict.fromkeys(places))


def _found(details: Mapping[str, Any]) -> list[Section]:
    names = dict.fromkeys(method.report for method in METHODS.values() if method.report)
    modules = (cast(Section, importlib.import_module(name)) for name in names)
    return [module for module in modules if module.DETAILS in details]
