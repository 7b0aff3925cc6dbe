"""The base class of the settings of a method."""

from collections.abc import Sequence

from nascore.config import Section, SpaceSection
from nascore.data.class_splits import Need
from nascore.errors import Problem


class MethodOptions(Section):
    """`search.options` of one method."""

    def unfit_for(self, space: SpaceSection) -> list[Problem]:
        """Return the problems of these settings with a space that the method may search."""
        return []

    def num_classes(self, classes: Sequence[str]) -> int:
        """Return how many classes a network of this method answers, of a data set with these."""
        return len(classes)

    @property
    def needs(self) -> tuple[Need, ...]:
        """Tasks that are drawn from the data, which is checked for them; empty for most."""
        return ()
