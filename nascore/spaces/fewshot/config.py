"""Settings of the few-shot cell space of Auto-Meta."""

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

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
    """The cells of Auto-Meta: one cell of one or more blocks, as in PNAS, for few-shot tasks.

    The eight operations of PNAS are `operations` sep_conv_3x3, sep_conv_5x5, sep_conv_7x7,
    conv_1x7_7x1, identity, avg_pool_3x3, max_pool_3x3 and dil_conv_3x3.
    """

    name: Literal["fewshot-cell"] = "fewshot-cell"
    implementation: ClassVar[str] = "nascore.spaces.fewshot.space.FewShotCellSpace"
    operations: tuple[FewShotOperation, ...] = FEW_SHOT_OPERATIONS
    """What a block may apply to its inputs."""
    max_blocks: Annotated[int, Field(ge=1, le=8)] = 5
    """The most blocks of a cell; a cell may have fewer."""
    num_cells: Annotated[int, Field(ge=1, le=16)] = 4
    """Cells one after the other."""
    reduction: Literal["strided", "max_pool"] = "strided"
    """How maps are halved: by strides where a cell reads its inputs, or by a 2x2 max pool behind
    it, as in the network of MAML."""
    halve_every: Annotated[int, Field(ge=1, le=16)] = 2
    """The last of so many cells halves the map; 1, every cell, needs max pools."""
    cell_output: Literal["all", "loose_ends"] = "all"
    """What a cell gives on, side by side: all its nodes with its two inputs, or only the blocks
    that no other block reads; then inputs with the channels of the cell are read without a 1x1."""
    head: Literal["average", "flatten"] = "average"
    """What the last layer reads of a channel: its mean, or its value in every place, as in the
    network of MAML; its weights grow with the pixels of the last map."""
    stem_stride: Literal[1, 2] = 1
    """2 halves the map before the first cell, in the same way: a quarter of the work, for images
    such as 28x28."""
    search_channels: Positive = 9
    """Of every block while searching; with 9 the published cell has 28.7 thousand weights."""
    final_channels: Positive = 17
    """Of every block of the final network; with 17 the published cell has 100 thousand weights."""
    final_params: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Weights of the final network, instead of `final_channels`: it has the channels that come
    closest. What a channel costs differs tenfold between cells."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of blocks, then four tokens for each that there may be."""
        return (self.max_blocks, *_of_blocks(self.max_blocks, len(self.operations)))

    @model_validator(mode="after")
    def _older_input_is_one_halving_away(self) -> Self:
        if self.halve_every == 1 and self.reduction == "strided":
            raise ValueError(
                "halve_every: 1 with strides would put two halvings between a cell and its older "
                "input; set reduction: max_pool, or halve_every: 2"
            )
        return self

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
