"""Settings of the space."""

from typing import ClassVar, Literal

from nascore.spaces.section import SpaceSection


class StripesConfig(SpaceSection):
    """Settings of the space."""

    name: Literal["stripes"] = "stripes"
    implementation: ClassVar[str] = "nascore.spaces.stripes.space.StripesSpace"

    @property
    def cardinalities(self) -> tuple[int, ...]:
        return (4, 4)


SECTION = StripesConfig
