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
    """Operations that a block may apply to its inputs."""
    num_blocks: Annotated[int, Field(ge=1, le=12)] = 5
    """Blocks of a cell; a block adds two operations and has four tokens."""
    search_channels: Positive = 8
    """Channels of the first stage in the search; 20 in the release."""
    search_cells_per_stage: Positive = 1
    """Normal cells per stage in the search, without the reduction cells between stages; 2 in the
    release."""
    final_channels: Positive = 16
    """Channels of the first stage of the final network; 36 in the release."""
    final_cells_per_stage: Positive = 2
    """Normal cells per stage of the final network; 5 in the release."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of the tokens: four per block, normal cell first."""
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
