"""Settings of the few-shot cell space of Auto-Meta."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from nascore.section import Positive
from nascore.spaces.section import SpaceSection, _of_blocks, _without_repeats

FewShotOperation = Literal[
    "conv_3x3",
    "conv_1x5_5x1",
    "dil_sep_conv_3x3",
    "max_pool_3x3",
    "avg_pool_3x3",
    "identity",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "conv_1x7_7x1",
    "dil_conv_3x3",
]


FEW_SHOT_OPERATIONS: tuple[FewShotOperation, ...] = get_args(FewShotOperation)[:6]


class FewShotCellSpaceConfig(SpaceSection):
    """Settings of the cells of Auto-Meta: one cell of one or more blocks, as in PNAS.

    The eight operations of PNAS are `operations` sep_conv_3x3, sep_conv_5x5, sep_conv_7x7,
    conv_1x7_7x1, identity, avg_pool_3x3, max_pool_3x3 and dil_conv_3x3.
    """

    name: Literal["fewshot-cell"] = "fewshot-cell"
    implementation: ClassVar[str] = "nascore.spaces.fewshot.space.FewShotCellSpace"
    operations: tuple[FewShotOperation, ...] = FEW_SHOT_OPERATIONS
    """Operations that a block may apply to its inputs."""
    max_blocks: Annotated[int, Field(ge=1, le=8)] = 5
    """Largest number of blocks of a cell."""
    num_cells: Annotated[int, Field(ge=1, le=16)] = 4
    """Number of stacked cells."""
    skeleton: Literal["pnas", "maml"] = "pnas"
    """How cells are stacked. `pnas`: every second cell halves its inputs by strides, the output of
    a cell is all its nodes, the last layer reads the mean of each channel. `maml`, for small
    images: a 2x2 max pool follows each cell, the output of a cell is the blocks that no other block
    reads, the last layer reads every position."""
    stem_stride: Literal[1, 2] = 1
    """2 halves the map before the first cell, in the same way; for images such as 28x28."""
    search_channels: Positive = 9
    """Channels of each block in the search; with 9 the published cell has 28.7 thousand weights."""
    final_channels: Positive = 17
    """Channels of each block of the final network; with 17 the published cell has 100 thousand
    weights."""

    @property
    def halve_every(self) -> int:
        """The last of so many cells halves the map."""
        return 1 if self.skeleton == "maml" else 2

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of blocks, then four tokens for each possible block."""
        return (self.max_blocks, *_of_blocks(self.max_blocks, len(self.operations)))

    @field_validator("operations")
    @classmethod
    def _something_to_apply(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if not operations:
            raise ValueError(
                "no block can be made; give at least one of "
                f"{', '.join(get_args(FewShotOperation))}"
            )
        return _without_repeats(operations)


SECTION = FewShotCellSpaceConfig
