"""What all settings of a method have in common."""

from nascore.config import Section, SpaceSection
from nascore.errors import Problem


class MethodOptions(Section):
    """`search.options` of one method."""

    def unfit_for(self, space: SpaceSection) -> list[Problem]:
        """What of these settings does not suit a space that the method may search."""
        return []
