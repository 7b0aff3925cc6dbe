"""Settings of the micro space of ENAS."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from nascore.section import Positive
from nascore.spaces.section import SpaceSection, _of_blocks, _without_repeats

MicroOperation = Literal["sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity"]


class EnasMicroSpaceConfig(SpaceSection):
    """The micro space of ENAS: a normal and a reduction cell, stacked in three stages."""

    shares_weights: ClassVar[bool] = True
    name: Literal["enas-micro"] = "enas-micro"
    implementation: ClassVar[str] = "nascore.spaces.enas_micro.space.EnasMicroSpace"
    operations: tuple[MicroOperation, ...] = get_args(MicroOperation)
    """What a block may apply to its inputs; all of ENAS' when not given."""
    num_blocks: Annotated[int, Field(ge=1, le=12)] = 5
    """Of each cell; a block adds two operations, and is four tokens."""
    search_channels: Positive = 8
    """Of the first stage; 20 in the release."""
    search_cells_per_stage: Positive = 1
    """Normal cells, beside the reduction cells between the stages; 2 in the release."""
    final_channels: Positive = 16
    """36 in the release."""
    final_cells_per_stage: Positive = 2
    """5 in the release."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Of the normal cell, then of the reduction cell, four tokens a block."""
        return _of_blocks(self.num_blocks, len(self.operations)) * 2

    @field_validator("operations")
    @classmethod
    def _image_reaches_output(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if not operations:
            raise ValueError(
                "no architecture has a path from the image to the output; give at least one of "
                f"{', '.join(get_args(MicroOperation))}"
            )
        return _without_repeats(operations)


SECTION = EnasMicroSpaceConfig
