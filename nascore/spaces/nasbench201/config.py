"""Settings of the cell space of NAS-Bench-201."""

from typing import ClassVar, Literal, get_args

from pydantic import field_validator

from nascore.section import Positive
from nascore.spaces.section import SpaceSection, _without_repeats

Cell201Operation = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]


class Cell201SpaceConfig(SpaceSection):
    """Settings of the NAS-Bench-201 cell: six edges, five operations, three stages."""

    shares_weights: ClassVar[bool] = True
    name: Literal["nasbench201"] = "nasbench201"
    implementation: ClassVar[str] = "nascore.spaces.nasbench201.space.Cell201Space"
    operations: tuple[Cell201Operation, ...] = get_args(Cell201Operation)
    """Operations of an edge."""
    search_channels: Positive = 8
    """Channels of the first stage in the search."""
    search_cells_per_stage: Positive = 1
    """Cells per stage in the search."""
    final_channels: Positive = 16
    """Channels of the first stage of the final network; 16 in the benchmark."""
    final_cells_per_stage: Positive = 5
    """Cells per stage of the final network; 5 in the benchmark."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of the tokens: one per edge."""
        return (len(self.operations),) * 6

    @field_validator("operations")
    @classmethod
    def _image_reaches_output(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if not set(operations) - {"none"}:
            raise ValueError(
                "no architecture has a path from the image to the output; give operations other "
                f"than none: {', '.join(get_args(Cell201Operation)[1:])}"
            )
        if len(operations) == 1:
            raise ValueError("one operation is one architecture; give at least two to search among")
        return _without_repeats(operations)


SECTION = Cell201SpaceConfig
